#!/usr/bin/env python3
"""Writes the files in safetensors/: what a reader must take, and what it must refuse, one rule each."""
import json
import pathlib
import struct

folder = pathlib.Path(__file__).parent / "safetensors"
folder.mkdir(exist_ok=True)


def put(name, header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    (folder / name).write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)


def tensor(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


sizes = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2, "I8": 1,
         "U8": 1, "BOOL": 1}
every, end = {"__metadata__": {"format": "pt"}}, 0
for dtype, size in sizes.items():
    every["a." + dtype] = tensor(dtype, [3, 1], end, end + 3 * size)
    end += 3 * size
put("every_dtype", every, bytes(range(end)))
put("nothing", {})
put("scalar_and_empty", {"s": tensor("F32", [], 0, 4), "e": tensor("F32", [0, 7], 4, 4)}, b"\0\0\x80\x3f")
put("escaped_name", b'{"\\u00e9\\n":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"\7")
put("duplicate", b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},'
                 b'"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}', b"12")
put("overlap", {"a": tensor("U8", [2], 0, 2), "b": tensor("U8", [2], 1, 3)}, b"123")
put("gap", {"a": tensor("U8", [1], 0, 1), "b": tensor("U8", [1], 2, 3)}, b"123")
put("overflow", {"a": tensor("F32", [1 << 32, 1 << 32], 0, 4)}, b"1234")
put("long_header", {}, length=1 << 63)
put("nested", b'{"a":' + b"[" * 200)
put("number_metadata", {"__metadata__": {"epoch": 3}})
