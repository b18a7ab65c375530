#!/usr/bin/env python3
"""make_fakequant.py: writes fakequant.json: the codes that PyTorch's fake_quantize_per_tensor_affine and
fake_quantize_per_channel_affine give to ten million values, and which of them pass a gradient, as sums of hashes.
tests/unit/test_fakequant.c makes the same values and compares what Detent's kernels compute.

    tests/reference/make_fakequant.py [FILE]

Values are made by an integer hash of their number, on a lattice of powers of two, so that C has the same bits. A code is
rint(x / scale) + zero point, clipped, and there are three ways to compute it: x times 1 / scale or x divided by scale, and
the zero point added before rounding or after it. They agree but where x / scale, in double, lies within 2^-10 of a tie:
such values count as ties. Those are kept in a sum of their own, and every tie where PyTorch differs from
rint(x (1 / scale)) + zero point, which is what Detent computes, is listed with PyTorch's code.
"""
import json
import os
import sys

try:
    import numpy as np
    import torch
except ImportError as e:
    sys.exit(f"make_fakequant.py: PyTorch is needed to compare with it ({e})")

HERE = os.path.dirname(os.path.abspath(__file__))
ROWS, COLUMNS = 8, 125000  # a block; channels are its rows
M64 = np.uint64(0xFFFFFFFFFFFFFFFF)
TIE = 2.0**-10

# name, blocks, bits of the lattice, values lie in [-span, span), codes, zero points and scales by row (one: all rows)
CASES = [
    ("int8 affine", 2, 24, 2.0, 0, 255, [60], [0.0061960784]),
    ("int8 affine, clipped", 1, 24, 8.0, -128, 127, [-37], [0.0234375]),
    ("int8 symmetric, narrow", 2, 24, 1.0, -127, 127, [0], [1 / 127]),
    ("int4", 1, 24, 1.0, -8, 7, [0], [0.1]),
    ("int4 with an odd zero point, many ties", 1, 10, 2.0, 0, 15, [5], [0.125]),
    ("int2, many ties", 1, 10, 2.0, -2, 1, [0], [0.5]),
    ("int8 per channel", 2, 24, 1.0, -127, 127, [0], [0.001, 0.0078125, 1 / 127, 0.02, 0.003, 1 / 3, 0.0051, 0.0101]),
]


def mix(v):
    """splitmix64's finalizer."""
    v = (v ^ (v >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9) & M64
    v = (v ^ (v >> np.uint64(27))) * np.uint64(0x94D049BB133111EB) & M64
    return v ^ (v >> np.uint64(31))


def values(number, block, bits, span):
    """Block `block` of case `number`: span (k / 2^(bits - 1) - 1), k of `bits` bits."""
    at = np.arange(ROWS * COLUMNS, dtype=np.uint64) + np.uint64(ROWS * COLUMNS * block)
    k = mix((at + np.uint64((number + 1) << 40)) * np.uint64(0x9E3779B97F4A7C15) & M64) >> np.uint64(64 - bits)
    return (span * (k.astype(np.float64) * 2.0 ** (1 - bits) - 1)).astype(np.float32).reshape(ROWS, COLUMNS)


def torch_codes(x, lo, hi, zeros, scales):
    """What PyTorch rounds to, from its results: these are scale (code - zero point). And the mask of its gradient."""
    t = torch.from_numpy(x).requires_grad_()
    if len(scales) == 1:
        y = torch.fake_quantize_per_tensor_affine(t, float(scales[0]), int(zeros[0]), lo, hi)
    else:
        y = torch.fake_quantize_per_channel_affine(t, torch.from_numpy(scales), torch.from_numpy(np.repeat(zeros, ROWS)), 0, lo, hi)
    y.sum().backward()
    exact = y.detach().numpy().astype(np.float64) / scales.astype(np.float64)[:, None]
    code = np.rint(exact)
    assert np.abs(exact - code).max() < 1e-4
    return code.astype(np.int64) + zeros.astype(np.int64)[:, None], t.grad.numpy().astype(np.int64)


def detent_codes(x, lo, hi, zeros, scales):
    """rint(clip(x (1 / scale), lo - z, hi - z)) + z, in single precision."""
    inverse = (np.float32(1) / scales)[:, None]
    z = zeros.astype(np.float32)[:, None]
    return np.rint(np.clip(x * inverse, np.float32(lo) - z, np.float32(hi) - z)).astype(np.int64) + zeros.astype(np.int64)[:, None]


def tie(x, scales):
    t = x.astype(np.float64) / scales.astype(np.float64)[:, None]
    return np.abs(t - np.floor(t) - 0.5) < TIE


def total(codes, block, mask):
    at = np.arange(ROWS * COLUMNS, dtype=np.uint64) + np.uint64(ROWS * COLUMNS * block)
    h = mix(at << np.uint64(10) | (codes.reshape(-1) + 512).astype(np.uint64))
    return int(h[mask.reshape(-1)].sum(dtype=np.uint64))


def case(number, name, blocks, bits, span, lo, hi, zeros, scales):
    zeros, scales = np.array(zeros, np.int32), np.array(scales, np.float32)
    out = {"name": name, "blocks": blocks, "bits": bits, "span": span, "lo": lo, "hi": hi, "zero": [int(z) for z in zeros],
           "scale": [float(str(s)) for s in scales], "values": blocks * ROWS * COLUMNS, "ties": 0, "sum": 0, "sum_of_ties": 0,
           "sum_of_masks": 0, "differ": []}
    sums = ("sum", "sum_of_ties", "sum_of_masks")
    for b in range(blocks):
        x = values(number, b, bits, span)
        found, passes = torch_codes(x, lo, hi, zeros, scales)
        own, ties = detent_codes(x, lo, hi, zeros, scales), tie(x, scales)
        differ = np.flatnonzero((found != own).reshape(-1))
        assert ties.reshape(-1)[differ].all(), "they differ where nothing is near a tie"
        out["ties"] += int(ties.sum())
        for key, numbers, mask in zip(sums, (found, found, passes), (~ties, ties, ties | ~ties)):
            out[key] = out[key] + total(numbers, b, mask) & 0xFFFFFFFFFFFFFFFF
        out["differ"] += [[int(i) + b * ROWS * COLUMNS, int(found.reshape(-1)[i])] for i in differ]
    for key in sums:
        out[key] = f"{out[key]:016x}"
    return out


def main():
    cases = [case(k, *c) for k, c in enumerate(CASES)]
    path = sys.argv[1] if len(sys.argv) > 1 else os.path.join(HERE, "fakequant.json")
    with open(path, "w") as f:
        f.write('{\n "made_by": %s,\n "cases": [\n' % json.dumps(f"make_fakequant.py with torch {torch.__version__}"))
        f.write(",\n".join("  " + json.dumps(c) for c in cases))
        f.write("\n ]\n}\n")
    for c in cases:
        print(f"{c['name']:<40} {c['values']:>8} values, {c['ties']:>7} near ties, {len(c['differ'])} differ")
    print(sum(c["values"] for c in cases), "values")


main()
