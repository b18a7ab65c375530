#!/usr/bin/env python3
"""make_calibration.py: writes calibration.json: the ranges that NumPy and SciPy find for quantizers, which
tests/unit/test_calibrate.c compares with those of runtime/calibrate.h.

    tests/reference/make_calibration.py [FILE]

The calibrators are written after NVIDIA's pytorch-quantization (calib/histogram.py), the code of Wu et al. 2020, and not
after Detent's: np.digitize and scipy.stats.entropy for the divergence, every bin for the error. Values come from a hash and
from operations that IEEE 754 rounds alike everywhere (no log, no exp of a library), so that C draws the very same ones.

What the paper leaves open is written here a second time, as runtime/calibrate_range.c states it: full codes, ranges with a
zero point, sigma3. For the search of both ends of a range, the reference is the best error over every zero point and a fine
scan of steps; the C search must come within a tolerance of it.
"""
import json
import os
import sys

import numpy as np
import scipy
from scipy.optimize import minimize_scalar
from scipy.stats import entropy

HERE = os.path.dirname(os.path.abspath(__file__))
FIRST, MOST, START = 2048, 1 << 14, 128  # bins of the first batch, most bins, first candidate
N = 4096  # values of a batch
GROWS, WIDE = (1, 1.25, 0.5, 3), (1, 40, 2)  # factors of the batches
# values -> name, factors of the batches, signed
SETS = {"normal": ("normal", GROWS, True), "half-normal": ("half-normal", GROWS, False), "laplace": ("laplace", GROWS, True),
        "outliers": ("outliers", GROWS, True), "silu": ("silu", GROWS, True), "merged": ("normal", WIDE, True)}
PERCENTILES = (99, 99.9, 99.99)


# ---- Values: uint32 and double operations alone --------------------------------------------------------------------------

def hashed(i, salt):
    x = (i.astype(np.uint64) * 2654435761 + salt * 40503) & 0xFFFFFFFF
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        x = ((x ^ (x >> np.uint64(shift))) * factor) & 0xFFFFFFFF
    return x ^ (x >> np.uint64(16))


def uniform(i, salt):
    return (hashed(i, salt).astype(np.float64) + 0.5) / 2.0**32


def log(u):
    m, e = np.frexp(u)
    y = (m - 1) / (m + 1)
    s = np.zeros_like(y)
    for k in range(12, -1, -1):
        s = s * (y * y) + 1 / (2 * k + 1)
    return 2 * y * s + e * 0.6931471805599453


def normal(i):
    s = np.zeros(i.shape)
    for k in range(12):
        s = s + uniform(i, k)
    return s - 6


def laplace(i):
    return -log(uniform(i, 1)) * np.where(hashed(i, 2) & 1, 1.0, -1.0)


def outliers(i):
    return (2 * uniform(i, 1) - 1) * np.where(hashed(i, 2) % 1000 == 0, 8.0, 1.0)


def silu(i):
    x = normal(i)
    e = 1 - x / 1024
    for _ in range(10):
        e = e * e
    return x / (1 + e)


DRAW = {"normal": normal, "half-normal": lambda i: np.maximum(normal(i), 0), "laplace": laplace, "outliers": outliers, "silu": silu}


def batches(name):
    kind, factors, _ = SETS[name]
    return [(DRAW[kind](np.arange(b * N, (b + 1) * N)) * f).astype(np.float32).astype(np.float64) for b, f in enumerate(factors)]


# ---- Histograms ----------------------------------------------------------------------------------------------------------

def histogram(data):
    """Bins of magnitudes for values >= 0 and for those below, of one width."""
    width = np.abs(data[0]).max() / FIRST
    pos, neg = np.zeros(1, np.int64), np.zeros(0, np.int64)
    for x in data:
        for side, part in ((0, x[x >= 0]), (1, -x[x < 0])):
            most = part.max() if part.size else 0
            while most > MOST * width:
                pos, neg = (np.add.reduceat(h, np.arange(0, h.size, 2)) if h.size else h for h in (pos, neg))
                width *= 2
            now = (pos, neg)[side]
            n = max(now.size, int(np.ceil(most / width)))
            k = np.minimum(np.floor(part / width).astype(np.int64), n - 1)
            now = np.pad(now, (0, n - now.size)) + np.bincount(k, minlength=n)
            pos, neg = (now, neg) if side == 0 else (pos, now)
    return width, pos, neg


def magnitudes(pos, neg):
    n = max(pos.size, neg.size)
    return np.pad(pos, (0, n - pos.size)) + np.pad(neg, (0, n - neg.size))


def points(width, pos, neg):
    return (np.concatenate([(np.arange(pos.size) + 0.5) * width, -(np.arange(neg.size) + 0.5) * width]),
            np.concatenate([pos, neg]).astype(np.float64))


# ---- Calibrators ---------------------------------------------------------------------------------------------------------

def quantized(x, step, zero, lo, hi):
    return (np.clip(np.rint(x / step) + zero, lo, hi) - zero) * step


def by_percentile(h, width, percentile):
    return int(np.searchsorted(np.cumsum(h) / h.sum(), percentile / 100)) * width


def by_mse(width, pos, neg, lo, hi):
    x, count = points(width, pos, neg)
    centers = (np.arange(max(pos.size, neg.size)) + 0.5) * width
    errors = [np.mean(count * (quantized(x, c / hi, 0, lo, hi) - x) ** 2) for c in centers[START:]]
    return centers[START + int(np.argmin(errors))]


def by_entropy(h, width, levels):
    bins = h.astype(np.float64)
    bins[0] = bins[1]
    divergences = []
    for i in range(START, len(bins) + 1):
        group = np.digitize(np.arange(i), np.linspace(0, i, num=levels + 1)) - 1
        some = bins[:i] != 0
        total = np.bincount(group[some], weights=bins[:i][some], minlength=levels)
        many = np.bincount(group[some], minlength=levels)
        q = np.where(some, (total / np.maximum(many, 1))[group], 0)
        p = bins[:i].copy()
        p[-1] += bins[i:].sum()
        divergences.append(entropy(p, q) if q.sum() > 0 else np.inf)
    last = len(divergences) - 1 - int(np.argmin(divergences[::-1]))
    return (START + last) * width


def ends_by_percentile(pos, neg, width, percentile):
    total = pos.sum() + neg.sum()

    def end(here, other):
        share = (other.sum() + np.cumsum(here)) / total
        return 0.0 if here.size == 0 or other.sum() / total >= percentile / 100 else int(np.searchsorted(share, percentile / 100)) * width
    return -end(neg, pos), end(pos, neg)


def best_affine(x, lo, hi):
    """The least error on the values themselves, over every zero point."""
    best = np.inf
    spread = x.max() - min(x.min(), 0)
    for zero in range(lo, hi + 1):
        def error(step):
            return np.mean((quantized(x, step, zero, lo, hi) - x) ** 2)
        steps = spread / (hi - lo) * 2.0 ** np.arange(-4, 1.01, 0.1 if hi - lo < 200 else 0.5)
        k = int(np.argmin([error(s) for s in steps]))
        r = minimize_scalar(error, bounds=(steps[max(k - 1, 0)], steps[min(k + 1, len(steps) - 1)]), method="bounded")
        best = min(best, r.fun, error(steps[k]))
    return best


# ---- Rows ----------------------------------------------------------------------------------------------------------------

def rows_of(name):
    data = batches(name)
    x, signed = np.concatenate(data), SETS[name][2]
    width, pos, neg = histogram(data)
    h = magnitudes(pos, neg)
    rows = []

    def add(kind, bits, lo, hi, low, high, affine=False, percentile=0, error=None):
        row = {"values": name, "kind": kind, "bits": bits, "lo": lo, "hi": hi, "affine": affine, "percentile": percentile}
        rows.append({**row, "error": error} if error is not None else {**row, "min": float(low), "max": float(high)})

    for bits in (8, 4, 2):
        half = 1 << bits - 1
        lo, hi = (1 - half, half - 1) if signed else (0, 2 * half - 1)

        def magnitude(kind, most, lo=lo, hi=hi, percentile=0):
            add(kind, bits, lo, hi, -most if lo < 0 else 0, most, percentile=percentile)
        magnitude("max", np.abs(x).max())
        for p in PERCENTILES:
            magnitude("percentile", by_percentile(h, width, p), percentile=p)
        magnitude("mse", by_mse(width, pos, neg, lo, hi))
        magnitude("entropy", by_entropy(h, width, hi + 1))
        if signed:
            magnitude("mse", by_mse(width, pos, neg, -half, half - 1), lo=-half)
        if bits < 6:
            three = np.abs(x.mean()) + 3 * x.std()
            magnitude("sigma3", three * hi / (hi + 1) if signed else three)
        if name == "merged":
            continue
        lo, hi = (-half, half - 1) if signed else (0, 2 * half - 1)
        add("max", bits, lo, hi, min(x.min(), 0), x.max(), affine=True)
        add("percentile", bits, lo, hi, *ends_by_percentile(pos, neg, width, 99.9), affine=True, percentile=99.9)
        t = by_entropy(h, width, 2 * half)
        add("entropy", bits, lo, hi, max(min(x.min(), 0), -t), min(x.max(), t), affine=True)
        add("mse", bits, lo, hi, 0, 0, affine=True, error=best_affine(x, lo, hi))
    return {"values": name, "draw": SETS[name][0], "factors": SETS[name][1], "width": width, "positive_bins": pos.size,
            "negative_bins": neg.size, "moment": int((np.arange(h.size) * h).sum())}, rows


def main():
    path = sys.argv[1] if len(sys.argv) > 1 else os.path.join(HERE, "calibration.json")
    made = [rows_of(name) for name in SETS]
    head = {"made_by": f"make_calibration.py with NumPy {np.__version__}, SciPy {scipy.__version__}", "batch": N}
    with open(path, "w") as f:
        f.write(json.dumps(head)[:-1] + ',\n "sets": [\n  ' + ",\n  ".join(json.dumps(s) for s, _ in made) + '],\n "rows": [\n  ')
        f.write(",\n  ".join(json.dumps(r) for _, rows in made for r in rows) + "]}\n")


if __name__ == "__main__":
    main()
