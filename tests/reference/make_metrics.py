#!/usr/bin/env python3
"""make_metrics.py: writes metrics.json: PSNR and SSIM of small pictures by NumPy, which tests/unit/test_metrics.c compares
with those of runtime/metrics.h.

    tests/reference/make_metrics.py [--check] [FILE]

Written after Wang et al. 2004 with whole windows (an outer product of weights over every patch), not after Detent's two
passes of rows. --check also compares with scikit-image, where it is installed: peak_signal_noise_ratio, and
structural_similarity with gaussian_weights, sigma 1.5, population covariance, cropped by 5 (valid) or over a picture
whose border was repeated by 5 before (padded).

Values are drawn from a hash, so that C draws the very same ones; they leave [0, 1] a little on both sides.
"""
import json
import os
import sys

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
# name -> channels, height, width, how far the second picture is from the first
PICTURES = {"noisy": (3, 16, 20, 0.1), "near": (3, 17, 13, 0.004), "grey": (1, 24, 11, 0.3), "small": (3, 9, 12, 0.2),
            "same": (2, 12, 12, 0.0)}
WINDOW, SIGMA, RANGE = 11, 1.5, 255.0


def uniform(count, salt):
    x = (np.arange(count, dtype=np.uint64) * np.uint64(2654435761) + np.uint64(salt * 40503)) & np.uint64(0xFFFFFFFF)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        x = ((x ^ (x >> np.uint64(shift))) * np.uint64(factor)) & np.uint64(0xFFFFFFFF)
    return ((x ^ (x >> np.uint64(16))) >> np.uint64(8)).astype(np.float64) / 2.0**24


def pictures(shape, distance):
    """f32 values: smooth in one direction, so that neighbours are alike."""
    c, h, w = shape
    count = c * h * w
    slope = (np.arange(count, dtype=np.float64) % w) / w
    clean = (0.7 * slope + 0.35 * uniform(count, 1)).astype(np.float32)
    other = (clean.astype(np.float64) + distance * (uniform(count, 2) - 0.5)).astype(np.float32)
    return clean.reshape(shape), other.reshape(shape)


def codes(x):
    return np.rint(np.clip(x.astype(np.float64), 0, 1) * 255)


def taps():
    d = np.arange(WINDOW) - WINDOW // 2
    g = np.exp(-(d * d) / (2 * SIGMA * SIGMA))
    return g / g.sum()


def ssim(x, y, size):
    """Mean over all windows of one plane."""
    weights = np.outer(taps(), taps())
    c1, c2 = (0.01 * size) ** 2, (0.03 * size) ** 2
    found = []
    for i in range(x.shape[0] - WINDOW + 1):
        for j in range(x.shape[1] - WINDOW + 1):
            a, b = x[i:i + WINDOW, j:j + WINDOW], y[i:i + WINDOW, j:j + WINDOW]
            ma, mb = (weights * a).sum(), (weights * b).sum()
            va, vb = (weights * (a - ma) ** 2).sum(), (weights * (b - mb) ** 2).sum()
            cov = (weights * (a - ma) * (b - mb)).sum()
            found.append((2 * ma * mb + c1) * (2 * cov + c2) / ((ma * ma + mb * mb + c1) * (va + vb + c2)))
    return float(np.mean(found)) if found else None


def score(name):
    c, h, w, distance = PICTURES[name]
    clean, other = pictures((c, h, w), distance)
    a, b = codes(other), codes(clean)
    mse = float(np.mean((a - b) ** 2))
    border = [np.pad(p, ((0, 0), (5, 5), (5, 5)), mode="edge") for p in (a, b)]
    forms = [[ssim(x[k], y[k], RANGE) for k in range(c)] for x, y in ((a, b), border)]
    valid, padded = (None if None in f else float(np.mean(f)) for f in forms)
    return {"name": name, "c": c, "h": h, "w": w, "distance": distance,
            "psnr": None if mse == 0 else 10 * float(np.log10(RANGE * RANGE / mse)), "ssim": valid, "padded": padded}


def check(rows):
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity
    keys = {"gaussian_weights": True, "sigma": SIGMA, "use_sample_covariance": False, "data_range": RANGE}
    for row in rows:
        clean, other = pictures((row["c"], row["h"], row["w"]), row["distance"])
        a, b = codes(other), codes(clean)
        if row["psnr"] is not None:
            assert abs(peak_signal_noise_ratio(b, a, data_range=RANGE) - row["psnr"]) < 1e-10, row
        border = [np.pad(p, ((0, 0), (5, 5), (5, 5)), mode="edge") for p in (a, b)]
        for key, (x, y) in (("ssim", (a, b)), ("padded", border)):
            if row[key] is not None:
                found = np.mean([structural_similarity(x[k], y[k], **keys) for k in range(row["c"])])
                assert abs(found - row[key]) < 1e-10, (key, found, row)
    print("scikit-image says the same of %d pictures" % len(rows))


def main():
    words = [w for w in sys.argv[1:] if w != "--check"]
    rows = [score(name) for name in PICTURES]
    if "--check" in sys.argv[1:]:
        check(rows)
    with open(words[0] if words else os.path.join(HERE, "metrics.json"), "w", encoding="utf-8") as file:
        json.dump({"taps": list(map(float, taps())), "pictures": rows}, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
