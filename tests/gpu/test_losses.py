#!/usr/bin/env python3
"""Training on a GPU goes as it does on a CPU: losses of the runs in losses.py, step by step.

On the simulated GPU the library's products are plain loops, as they are with the interpreter: in float every loss, and
every tensor after the last step, is the same to the bit; so it is under quantizers whose steps are not trained, masks of
Quant-Noise included. The gradient of a weight's step size is a sum over the weight in the order in which it lies in
memory, and that is another one on GPUs (KRSC): its last bits differ.

On a real GPU cuDNN adds up in an order of its own, so the first loss differs by rounding; afterwards training itself
makes small differences larger (a code that falls to the other side, a ReLU that opens). How fast, CPU runs show that
differ in nothing but the order of sums (oneDNN with one and with two threads, plain loops): the worst of three pairs.

                    first step   largest of 10   mean of 50
    mnist-float     0            5e-7            3e-3
    mnist-lsq       1e-6         2e-2            2e-2
    resnet20-float  0            6e-4            8e-3
    resnet20-lsq    0            4e-3            2e-2
    mnist-qat       0            7e-3            2e-2
    mnist-lsq-plus  3e-5         8e-3            5e-2
    mnist-quant-noise 0          9e-6            6e-3
    mnist-qsin      0            7e-7            1e-3

BOUNDS allows several times that, of losses that fall from 2.3 (mnist) and 4.4 (resnet20) to 0.8 and 2.1.
"""
import os
import unittest

import gpu
from gpu import e2e
from losses import RUNS, SMALL_RUNS, packed

# run: the most that may lie between the losses of the first step, of any of the first ten, and in the mean of all
BOUNDS = {
    "mnist-float": (1e-5, 1e-3, 0.02),
    "mnist-lsq": (1e-3, 0.1, 0.08),
    "mnist-int8": (1e-3, 0.1, 0.08),
    "mnist-qat": (1e-3, 0.05, 0.08),
    "mnist-lsq-plus": (1e-3, 0.05, 0.15),
    "mnist-quant-noise": (1e-3, 0.05, 0.08),
    "mnist-qsin": (1e-3, 0.01, 0.02),
    "resnet20-float": (1e-4, 0.01, 0.04),
    "resnet20-lsq": (5e-3, 0.05, 0.08),
}


EXACT = ("small-float", "small-qat", "small-quant-noise", "small-symmetric")
LAST_BITS = 1e-5  # of losses, and of tensors beside their largest element, on the simulated GPU under quantizers
CANCELLED = 2e-8  # of sums whose terms have both signs and nearly cancel: gradients of step sizes


class Losses(gpu.Case):
    def reference(self, name):
        found = packed(os.path.join(gpu.PACK, "losses"), name)
        if found:
            return found
        run = RUNS[name]
        try:
            return run.losses(self, "reference", run.reference)
        except e2e.Failed as e:
            if "DT_LLVM" in str(e) or "DT_ONEDNN" in str(e):
                self.skipTest("no losses of a CPU to compare with: this build has no backend cpu, and tools/pack-gpu wrote none")
            raise

    def compare_real(self, name):
        expected, found = self.reference(name), RUNS[name].losses(self, "gpu", "cuda")
        self.assertEqual(len(found), len(expected))
        apart = [abs(a - b) for a, b in zip(expected, found)]
        measured = (apart[0], max(apart[:10]), sum(apart) / len(apart))
        print("%s: apart %.2g in the first step, at most %.2g in ten, %.2g in the mean of %d" % (name, *measured, len(apart)), flush=True)
        for value, bound in zip(measured, BOUNDS[name]):
            self.assertLessEqual(value, bound, "%s: %s beside %s" % (name, found, expected))

    def compare_simulated(self, name):
        run = SMALL_RUNS[name]
        found, expected = run.losses(self, "gpu", gpu.BACKEND), run.losses(self, "reference", run.reference)
        self.assertEqual(len(found), run.steps)
        self.assertEqual(found[0], expected[0])
        if name in EXACT:
            self.assert_same_run("gpu", "reference", ("last.safetensors", "metrics.jsonl"))
        for a, b in zip(found, expected):
            self.assertAlmostEqual(a, b, delta=LAST_BITS)
        ours, theirs = self.tensors("gpu"), self.tensors("reference")
        self.assertEqual(ours.keys(), theirs.keys())
        for key, values in ours.items():
            largest = max(map(abs, theirs[key]))
            self.assertLessEqual(max(abs(a - b) for a, b in zip(values, theirs[key])), LAST_BITS * largest + CANCELLED, key)


def add_test(name):
    compare = Losses.compare_real if gpu.REAL else Losses.compare_simulated
    setattr(Losses, "test_" + name.replace("-", "_"), lambda self: compare(self, name))


for each in RUNS if gpu.REAL else SMALL_RUNS:
    add_test(each)

if __name__ == "__main__":
    gpu.main()
