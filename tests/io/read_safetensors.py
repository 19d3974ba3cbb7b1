#!/usr/bin/env python3
"""A reader and writer of safetensors files of its own, to compare residua's with.

read_safetensors.py show FILE    prints the metadata, then each tensor: name, dtype, shape, numbers
read_safetensors.py make FILE    writes a file of every dtype
"""
import json
import struct
import sys

# BF16 is what struct lacks: the upper half of a float.
formats = {"F64": "d", "F32": "f", "F16": "e", "BF16": "H", "I64": "q", "I32": "i", "I16": "h", "I8": "b", "U64": "Q",
           "U32": "I", "U16": "H", "U8": "B", "BOOL": "?"}


def unpack(dtype, data):
    numbers = struct.unpack(f"<{len(data) // struct.calcsize(formats[dtype])}{formats[dtype]}", data)
    if dtype == "BF16":
        return [struct.unpack("<f", struct.pack("<I", number << 16))[0] for number in numbers]
    return [int(number) if dtype == "BOOL" else number for number in numbers]


def show(path):
    with open(path, "rb") as file:
        length, = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length).decode("utf-8"))
        data = file.read()
    assert (8 + length) % 8 == 0, "the data is not aligned"
    print(header.pop("__metadata__", {}))
    for name, tensor in header.items():
        begin, end = tensor["data_offsets"]
        numbers = " ".join(format(number, "g") for number in unpack(tensor["dtype"], data[begin:end]))
        print(name, tensor["dtype"], tensor["shape"], numbers)


def make(path):
    header, data = {"__metadata__": {"made by": "Python", "ключ": "值"}}, b""
    for dtype, form in formats.items():
        values = {"BF16": [0x3F80, 0x4000, 0xC040], "BOOL": [1, 0, 1]}.get(dtype, [1, 2, 3])
        begin = len(data)
        data += struct.pack("<3" + form, *values)
        header["of " + dtype] = {"dtype": dtype, "shape": [3, 1], "data_offsets": [begin, len(data)]}
    text = json.dumps(header).encode("utf-8")
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)


{"show": show, "make": make}[sys.argv[1]](sys.argv[2])
