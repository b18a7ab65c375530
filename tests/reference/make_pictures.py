#!/usr/bin/env python3
"""Writes pictures.json beside this file: what Pillow (pip install pillow) makes of a small picture. Read by test_pictures.c
and test_augment.c, which make the same picture from the same formula.

    python3 make_pictures.py
"""
import json
import os

from PIL import Image, ImageEnhance, ImageOps, __version__

H, W = 23, 31


def picture():
    """Smooth slopes, a hard edge, and bytes that look random; all three channels differ."""
    rows = []
    for y in range(H):
        for x in range(W):
            rough = (y * 7919 + x * 104729 + (y * x) * 31) % 256
            for k in range(3):
                value = (8 * x + 3 * y + 40 * k) % 256 if x < 15 else (rough + 60 * k) % 256 if y > 6 else 255 * (k == y % 3)
                rows.append(value)
    return Image.frombytes("RGB", (W, H), bytes(rows))


def flat(im):
    return im.tobytes().hex()


def main():
    im = picture()
    filters = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
    # filter, output h w, region top left height width
    regions = [(h, w, box) for h, w, box in [
        (10, 12, (0, 0, H, W)), (46, 40, (0, 0, H, W)), (23, 31, (0, 0, H, W)), (7, 9, (3, 5, 15, 20)),
        (30, 20, (1, 2, 6, 9)), (5, 5, (0.5, 1.25, 20, 25.5)), (40, 64, (10, 0, 8, 31))]]
    resized = [{"filter": name, "h": h, "w": w, "region": box,
                "pixels": flat(im.resize((w, h), f, box=(box[1], box[0], box[1] + box[3], box[0] + box[2])))}
               for name, f in filters.items() for h, w, box in regions]
    ops = {
        "brightness 0.6": ImageEnhance.Brightness(im).enhance(0.6), "brightness 1.7": ImageEnhance.Brightness(im).enhance(1.7),
        "contrast 0.6": ImageEnhance.Contrast(im).enhance(0.6), "contrast 1.7": ImageEnhance.Contrast(im).enhance(1.7),
        "saturation 0.6": ImageEnhance.Color(im).enhance(0.6), "saturation 1.7": ImageEnhance.Color(im).enhance(1.7),
        "sharpness 0.1": ImageEnhance.Sharpness(im).enhance(0.1), "sharpness 1.9": ImageEnhance.Sharpness(im).enhance(1.9),
        "posterize 4": ImageOps.posterize(im, 4), "solarize 100": ImageOps.solarize(im, 100),
        "autocontrast 0": ImageOps.autocontrast(im.point(lambda v: 40 + v // 2)), "equalize 0": ImageOps.equalize(im),
        "rotate 17": im.rotate(17, Image.Resampling.NEAREST),
        "shear_x 0.3": im.transform((W, H), Image.Transform.AFFINE, (1, 0.3, 0, 0, 1, 0), Image.Resampling.NEAREST),
        "translate_y 0.25": im.transform((W, H), Image.Transform.AFFINE, (1, 0, 0, 0, 1, -int(0.25 * H)), Image.Resampling.NEAREST),
    }
    out = {"made_by": "make_pictures.py, Pillow " + __version__, "h": H, "w": W, "picture": flat(im), "resized": resized,
           "grey": flat(im.convert("L")), "ops": {name: flat(result) for name, result in ops.items()}}
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "pictures.json"), "w") as file:
        json.dump(out, file, separators=(",", ":"))
        file.write("\n")


main()
