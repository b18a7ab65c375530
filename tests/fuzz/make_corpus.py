#!/usr/bin/env python3
"""make_corpus.py: writes the small files in corpus/ that fuzzing starts from, one folder a reader (needs Pillow).

    tests/fuzz/make_corpus.py

corpus/mat/v73.mat alone is not made here: libmatio wrote it (Mat_CreateVer, MAT_FT_MAT73; 2 x 1 blocks of 4 x 4 x 3).
Recipes and IR are text: readers.c takes passes/recipes, tests/recipes and tests/golden for them.
"""
import gzip
import io
import json
import os
import struct
import zlib

from PIL import Image

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus")


def put(name, data):
    path = os.path.join(HERE, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)


def picture(mode, w, h):
    bands = len(mode)
    return Image.frombytes(mode, (w, h), bytes((x * 9 + y * 5 + 60 * k) % 256 for y in range(h) for x in range(w) for k in range(bands)))


def save(im, form, **options):
    out = io.BytesIO()
    im.save(out, form, **options)
    return out.getvalue()


def jpegs():
    rgb = picture("RGB", 29, 19)
    put("jpeg/rgb.jpg", save(rgb, "JPEG", quality=80))
    put("jpeg/444.jpg", save(rgb, "JPEG", quality=95, subsampling=0, optimize=True))
    put("jpeg/progressive.jpg", save(rgb, "JPEG", quality=70, progressive=True))
    put("jpeg/restart.jpg", save(picture("RGB", 48, 33), "JPEG", quality=60, restart_marker_blocks=2))
    put("jpeg/grey.jpg", save(picture("L", 17, 23), "JPEG", quality=75))
    put("jpeg/inks.jpg", save(picture("CMYK", 16, 9), "JPEG", quality=75))


def pngs():
    put("png/rgb.png", save(picture("RGB", 19, 13), "PNG"))
    put("png/grey.png", save(picture("L", 19, 13), "PNG"))
    put("png/alpha.png", save(picture("RGBA", 9, 7), "PNG"))
    put("png/palette.png", save(picture("RGB", 16, 16).quantize(7), "PNG", transparency=2))
    put("png/bits.png", save(picture("L", 21, 6).convert("1"), "PNG"))
    put("png/deep.png", save(Image.frombytes("I;16", (8, 5), bytes(range(80))), "PNG"))
    # interlaced, which Pillow does not write: 2 x 2 grey, passes 1, 6 and 7
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    put("png/interlaced.png", b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 8, 0, 0, 0, 1)) +
        chunk(b"IDAT", zlib.compress(b"\0\x10" + b"\0\x20" + b"\0\x30\x40")) + chunk(b"IEND", b""))


def idx(kind, count):
    """Of the pattern that readers.c completes to a data set: `count` images, or labels."""
    if kind == "labels":
        return struct.pack(">II", 0x801, count) + bytes(i % 10 for i in range(count))
    return struct.pack(">IIII", 0x803, count, 28, 28) + bytes((i * 7 // 28) % 256 for i in range(count * 784))


def sets():
    put("idx/images", idx("images", 2))
    put("idx/images.gz", gzip.compress(idx("images", 2), mtime=0))
    put("idx_labels/labels", idx("labels", 2))
    put("idx_labels/labels.gz", gzip.compress(idx("labels", 2), mtime=0))
    put("cifar/two", bytes([3]) + bytes(3072) + bytes([9]) + bytes([7]) * 3072)
    put("cifar100/one", bytes([3, 99]) + bytes(3072))


def element(kind, data):
    return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)


def mat(compressed, name=b"Blocks"):
    dims = (2, 1, 4, 4, 3)
    size = 1
    for d in dims:
        size *= d
    inside = (element(6, struct.pack("<II", 9, 0)) + element(5, struct.pack("<5i", *dims)) + element(1, name) +
              element(2, bytes(i % 256 for i in range(size))))
    matrix = struct.pack("<II", 14, len(inside)) + inside
    text = b"MATLAB 5.0 MAT-file, for tests".ljust(116) + bytes(8) + struct.pack("<H", 0x0100) + b"IM"
    packed = zlib.compress(matrix)
    return text + (struct.pack("<II", 15, len(packed)) + packed if compressed else matrix)


def safetensors(tensors, meta=None):
    header, data = {}, b""
    if meta:
        header["__metadata__"] = meta
    for name, kind, shape, content in tensors:
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def main():
    jpegs()
    pngs()
    sets()
    put("mat/plain.mat", mat(False))
    put("mat/packed.mat", mat(True))
    put("safetensors/two.safetensors", safetensors([("conv.weight", "F32", [2, 1, 3], struct.pack("<6f", *range(6))),
                                                    ("step", "I64", [], struct.pack("<q", 7))], {"net": "resnet20", "bits": "w4a4"}))
    put("safetensors/half.safetensors", safetensors([("x", "BF16", [3], bytes(6)), ("empty", "U8", [0, 4], b"")]))


main()
