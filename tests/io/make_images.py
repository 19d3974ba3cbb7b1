#!/usr/bin/env python3
"""Writes PNG and JPEG files of all kinds into ../fuzz/corpus/images, and what PIL and torchvision make of them.

expected.ppm is one image after another, each named by a comment; a PPM file may hold many. preset.f32 holds the
numbers of torchvision's preset. Made with Debian 12's python3-pil (9.4, libjpeg-turbo 2.1.5), torchvision 0.14.
"""
import io
import pathlib
import struct
import zlib

import numpy as np
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F
from torchvision.transforms._presets import ImageClassification

here = pathlib.Path(__file__).parent
folder = here.parent / "fuzz" / "corpus" / "images"
folder.mkdir(parents=True, exist_ok=True)
rng = np.random.default_rng(1)
expected = []


def expect(name, image):
    image = image.convert("RGB")
    expected.append(b"P6\n# %s\n%d %d\n255\n" % (name.encode(), *image.size) + image.tobytes())


def put(name, data):
    (folder / name).write_bytes(data)
    expect(name, Image.open(io.BytesIO(data)))


# --- PNG, written here because PIL writes only some kinds -------------------------------------------------------------


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def packed(numbers, depth):
    """Rows of numbers (height, width, channels) of `depth` bits each, behind filter 0."""
    bits = (numbers[..., None] >> np.arange(depth - 1, -1, -1)) & 1
    rows = np.packbits(bits.reshape(len(numbers), -1).astype(np.uint8), axis=1)
    return b"".join(b"\0" + row.tobytes() for row in rows)


def png(name, depth, color, *chunks, interlaced=False, most=None, height=5, width=7):
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    numbers = rng.integers(0, most or 1 << depth, (height, width, channels))
    if depth == 16 and color == 0:
        numbers[::2] %= 256  # PIL cuts off above
    passes = [(0, 0, 1, 1)]
    if interlaced:
        passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    parts = [numbers[h::down, w::right] for h, w, down, right in passes]
    data = b"".join(packed(part, depth) for part in parts if part.size)
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlaced)
    put(name + ".png", b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunks) +
        chunk(b"IDAT", zlib.compress(data, 9)) + chunk(b"IEND", b""))


def palette(count):
    return chunk(b"PLTE", rng.bytes(3 * count))


gamma = chunk(b"gAMA", struct.pack(">I", 100000))
for depth in 1, 2, 4, 8, 16:
    png("grey%d" % depth, depth, 0)
for depth in 1, 2, 4, 8:
    png("palette%d" % depth, depth, 3, palette(1 << min(depth, 5)), most=1 << min(depth, 5))
for depth in 8, 16:
    png("grey_alpha%d" % depth, depth, 4)
    png("rgb%d" % depth, depth, 2)
    png("rgba%d" % depth, depth, 6)
png("grey1_interlaced", 1, 0, interlaced=True, height=9, width=10)
png("grey16_interlaced", 16, 0, interlaced=True)
png("palette4_interlaced", 4, 3, palette(16), interlaced=True)
png("rgba8_interlaced", 8, 6, interlaced=True, height=9, width=10)
png("rgb8_narrow_interlaced", 8, 2, interlaced=True, height=3, width=1)
png("grey2_transparent", 2, 0, chunk(b"tRNS", b"\0\2"))
png("rgb8_transparent_with_gamma", 8, 2, gamma, chunk(b"tRNS", bytes(6)))
png("palette8_transparent", 8, 3, palette(8), chunk(b"tRNS", bytes(range(0, 80, 10))), most=8)

# --- JPEG ------------------------------------------------------------------------------------------------------------

height, width = 17, 18
waves = [np.sin(np.outer(np.arange(height) + c, np.arange(width)) / (9 + 4 * c)) for c in range(4)]
smooth = np.stack([128 + 120 * wave for wave in waves], -1).astype(np.uint8)
photo = Image.fromarray(smooth[..., :3])


def jpeg(image, **options):
    out = io.BytesIO()
    image.save(out, "JPEG", quality=70, optimize=True, **options)
    return out.getvalue()


def changed(data, marker, offset, value):
    """One byte behind a marker replaced."""
    at = data.index(bytes([0xFF, marker])) + offset
    return data[:at] + bytes([value]) + data[at + 1:]


put("grey.jpg", jpeg(photo.convert("L")))
put("grey_sampled.jpg", changed((folder / "grey.jpg").read_bytes(), 0xC0, 11, 0x22))
put("444.jpg", jpeg(photo, subsampling=0))
put("422.jpg", jpeg(photo, subsampling=1))
put("420.jpg", jpeg(photo, subsampling=2))
put("progressive.jpg", jpeg(photo, progressive=True))
exif = Image.Exif()
exif[0x0112] = 6  # turned by 90°
put("turned.jpg", jpeg(photo.crop((0, 0, 9, 8)), exif=exif))
cmyk = jpeg(Image.frombytes("CMYK", (width, height), smooth.tobytes()))
put("cmyk.jpg", cmyk)
put("ycck.jpg", changed(cmyk, 0xEE, 15, 2))
adobe_rgb = b"\xff\xee\x00\x0eAdobe\0\x64\0\0\0\0\0"
put("rgb.jpg", b"\xff\xd8" + adobe_rgb + jpeg(photo, subsampling=0)[20:])

# --- other sizes -----------------------------------------------------------------------------------------------------

# With this seed two of the bicubic results depend on how negative weights are rounded.
noise = Image.fromarray(np.random.default_rng(17).integers(0, 256, (10, 13, 3), dtype=np.uint8))
noise.save(folder / "noise.png", optimize=True)
expect("noise.png", noise)
for name, mode in ("bilinear", Image.BILINEAR), ("bicubic", Image.BICUBIC):
    for h, w in (10, 6), (4, 13), (3, 5), (13, 17), (7, 19), (1, 1), (21, 2):
        expect("%s %d %d" % (name, h, w), noise.resize((w, h), mode))
for size in 3, 7, 11:
    expect("shorter %d" % size, F.resize(noise, size, InterpolationMode.BILINEAR))
    expect("shorter turned %d" % size, F.resize(noise.transpose(Image.ROTATE_90), size, InterpolationMode.BICUBIC))
for h, w in (3, 4), (4, 6), (5, 7), (10, 13), (13, 4), (5, 16), (11, 14):
    expect("crop %d %d" % (h, w), F.center_crop(noise, [h, w]))
numbers = ImageClassification(crop_size=9, resize_size=11)(noise)
(here / "preset.f32").write_bytes(numbers.permute(1, 2, 0).contiguous().numpy().tobytes())

(here / "expected.ppm").write_bytes(b"".join(expected))
