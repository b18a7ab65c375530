#!/usr/bin/env python3
"""make_lsq.py: writes lsq.json: what the LSQ quantizer makes of given inputs, and its gradients, by PyTorch's autograd in
double precision. tests/unit/test_parity.c runs qdq, qdq_grad_x and lsq_grad_step on the same inputs and compares.

    tests/reference/make_lsq.py [FILE]

The function is torch_nets.lsq(), the usual `detach` form. Its one difference in meaning is at the very ends of the clip
range: torch.clamp passes the gradient there. Esser et al. 2020 and Detent do not: strictly between the ends dx = g and
dstep = g (rint(t) - t); from the ends on dx = 0 and dstep = g times that end. The script puts that in for elements that
lie on an end exactly, and counts them.

No random input comes near a tie or an end, where the last bit of x / step would decide; the case `ties` lies exactly on
both, with a step of 2^-3, so that every way to divide agrees.
"""
import json
import math
import os
import sys

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "bench"))

import numpy as np  # noqa: E402
import philox  # noqa: E402
from torch_nets import lsq, torch  # noqa: E402

SEED, N = 7, 96
# name, bits, signed, step (None: LSQ's first), relu
CASES = [("w2", 2, True, None, False), ("w3", 3, True, 0.5, False), ("w4", 4, True, None, False), ("w8", 8, True, 0.02, False),
         ("a2", 2, False, None, True), ("a4", 4, False, None, True), ("a8", 8, False, 0.0117, True),
         ("a4 of negative inputs", 4, False, 0.25, False), ("w4 wide step", 4, True, 3.0, False), ("w4 narrow step", 4, True, 0.01, False)]


def clip_range(bits, signed):
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)


def away_from_edges(x, step, lo, hi):
    """Moves inputs off ties and ends by a hundredth of a step; exact zeros (of relu) stay."""
    t = x.astype(np.float64) / float(step)
    tie = np.abs(np.abs(t - np.floor(t)) - 0.5) < 1e-3
    end = (np.minimum(np.abs(t - lo), np.abs(t - hi)) < 1e-3) & (x != 0)
    return np.where(tie | end, x + np.float32(0.01) * step, x).astype(np.float32)


def case(name, bits, signed, step, x, g):
    lo, hi = clip_range(bits, signed)
    step, scale = np.float32(step), 1 / math.sqrt(x.size * hi)
    tx = torch.tensor(x.astype(np.float64), requires_grad=True)
    each = torch.full(x.shape, float(step), dtype=torch.float64, requires_grad=True)  # a step an element: the terms of the sum
    tg = torch.tensor(g.astype(np.float64))
    y = lsq(tx, each, lo, hi, scale)
    y.backward(tg)
    dx, terms, t = tx.grad.numpy().copy(), each.grad.numpy().copy(), x.astype(np.float64) / float(step)
    for end in (lo, hi):
        dx[t == end] = 0
        terms[t == end] = end * g[t == end] * scale
    on_ends = int(((t == lo) | (t == hi)).sum())
    codes = np.rint(y.detach().numpy() / float(step))
    assert codes.min() >= lo and codes.max() <= hi
    return {"name": name, "bits": bits, "lo": lo, "hi": hi, "step": f32(step), "scale": scale, "on_ends": on_ends,
            "dstep": terms.sum(), "dstep_abs": np.abs(terms).sum(), "x": [f32(v) for v in x], "g": [f32(v) for v in g],
            "codes": [int(c) for c in codes], "dx": [f32(v) for v in dx]}


def f32(v):
    """The shortest decimal that reads back as this float."""
    return float(str(np.float32(v)))


def random_case(k, name, bits, signed, step, relu):
    lo, hi = clip_range(bits, signed)
    x, g = philox.normal(SEED, 10, k, N), philox.normal(SEED, 11, k, N)
    x = np.maximum(x, np.float32(0)) if relu else x
    step = np.float32(2 * np.abs(x).mean() / math.sqrt(hi) if step is None else step)
    return case(name, bits, signed, step, away_from_edges(x, step, lo, hi), g)


def ties():
    """t = -10, -9.5, ..., 9.5: every tie and both ends of w4, halves to even."""
    t = np.arange(-10, 10, 0.5)
    return case("ties", 4, True, 0.125, (t * 0.125).astype(np.float32), philox.normal(SEED, 11, 99, t.size))


def write(path, cases):
    """One line an array."""
    with open(path, "w") as f:
        f.write('{\n "made_by": %s,\n "cases": [\n' % json.dumps(f"make_lsq.py with torch {torch.__version__}"))
        f.write(",\n".join("  {" + ",\n   ".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in c.items()) + "}" for c in cases))
        f.write("\n ]\n}\n")


def main():
    cases = [random_case(k, *c) for k, c in enumerate(CASES)] + [ties()]
    path = sys.argv[1] if len(sys.argv) > 1 else os.path.join(HERE, "lsq.json")
    write(path, cases)
    for c in cases:
        clipped = sum(k in (c["lo"], c["hi"]) for k in c["codes"])
        print(f"{c['name']:<24} at or beyond the ends {clipped:>3} of {len(c['codes'])}, on them {c['on_ends']:>2}, dstep {c['dstep']:.6g}")


main()
