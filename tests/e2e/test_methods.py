#!/usr/bin/env python3
"""Every method from the command line: it trains, what it schedules begins where it should, a run that was killed and
resumed leaves the bytes of one that was left alone, and what a diagnosis says of the weights is what their bytes say.

Accuracy of methods is measured in bench/methods; here the threshold only tells a network that learns (after two epochs
of 6,000 digits the small network has 90 % with each method) from one that does not.
"""
import math
import os
import random
import signal
import time
import unittest

import e2e

RUN = ("--data", e2e.DIGITS, "--epochs", "2", "--log-every", "1", "--save-every", "5")
# What is learned in two epochs of steps this long; a regularizer's own schedule would need a longer run.
GENTLE = ("--set", "lambda=0.1,1", "--set", "act-lambda=0.1", "--lr", "0.02")
# method, options, least accuracy
METHODS = {
    "lsq": (("--method", "lsq", "--bits", "w4a4", "--set", "noise=0,1"), 85),
    "lsq_plus": (("--method", "lsq+", "--bits", "w4a4", "--set", "freeze-ranges=1.5"), 85),
    "qat": (("--method", "qat", "--bits", "w4a4", "--set", "delay=1", "--set", "freeze-bn=1.5"), 85),
    "quant_noise": (("--method", "quant-noise", "--bits", "w4a4", "--set", "noise=0.25,1@75%"), 85),
    "qsin": (("--method", "qsin", "--bits", "w8a8", *GENTLE), 60),
    "msqe": (("--method", "msqe", "--bits", "w8a8", *GENTLE), 60),
    "ptq": (("--method", "ptq", "--bits", "w8a8"), 85),
}
KILLS = 3


def is_clamped(name):
    return name in ("qsin", "msqe")


class Methods(e2e.Case):
    def start_or_resume(self, out, *args):
        if os.path.exists(self.path(out, "args.json")):
            return self.start("train", "--resume", out, "--data", e2e.DIGITS)
        return self.start("train", e2e.SMALL, "--out", out, *RUN, *args)

    def run_killed(self, out, *args):
        """Killed KILLS times at some step, then left alone."""
        chance = random.Random(out)
        for kill in range(KILLS + 1):
            process, wanted, seen = self.start_or_resume(out, *args), chance.randint(1, 50), 0
            for line in process.stderr if kill < KILLS else ():
                seen += e2e.steps_shown(line)
                if seen >= wanted:
                    time.sleep(chance.uniform(0, 0.01))
                    process.send_signal(signal.SIGKILL)
                    break
            said = process.stderr.read()
            process.stderr.close()
            self.assertIn(process.wait(), (0, -signal.SIGKILL), said)
        self.assertEqual(process.returncode, 0, said)

    def check_rows(self, name):
        rows = self.jsonl("whole")
        looks = [row for row in rows if row["kind"] == "inspect"]
        epochs = [row for row in rows if row["kind"] == "epoch"]
        self.assertEqual([row["step"] for row in looks], [60, 120])
        for row in looks:
            self.assertEqual(len(row["quantizers"]), 6)  # three layers
            self.assertEqual("convergence" in row, is_clamped(name))
        for row in epochs:
            self.assertEqual("test_top1_clamped" in row, is_clamped(name))

    def check_weight(self, name, weight, look, tensors, bits):
        """A diagnosis against the bytes of the checkpoint of the same step."""
        values, steps = tensors[weight], tensors[weight + ".step"]
        each = len(values) // len(steps)
        low, high = -2**(bits - 1) + (name == "ptq"), 2**(bits - 1) - 1
        clipped = noise = signals = phi = 0
        for i, x in enumerate(values):
            s = steps[i // each]
            t = x / s
            nearest = min(max(t, low), high)
            clipped += not low <= round(t) <= high
            noise += (x - s * round(nearest))**2
            signals += x * x
            phi += (t - round(nearest))**2 if name == "msqe" else (
                math.sin(math.pi * t)**2 if nearest == t else (math.pi * (t - nearest))**2)
        self.assertAlmostEqual(look["clipped"], clipped / len(values), delta=1.5 / len(values))
        self.assertAlmostEqual(look["snr_db"], 10 * math.log10(signals / noise), delta=0.01)
        self.assertAlmostEqual(look["step_min"], min(steps), delta=1e-6 * min(steps))
        self.assertAlmostEqual(look["step_max"], max(steps), delta=1e-6 * max(steps))
        if is_clamped(name):
            self.assertAlmostEqual(look["convergence"], phi / len(values), delta=1e-3 * phi / len(values))

    def check_looks(self, name):
        """Methods whose steps are kept in the checkpoint; those of qat are made from the weight in every step."""
        look = [row for row in self.jsonl("whole") if row["kind"] == "inspect"][-1]
        tensors = self.tensors("whole")
        weights = [w for w in ("conv1.weight", "conv2.weight", "fc1.weight") if w + ".step" in tensors]
        self.assertEqual(len(weights), 0 if name in ("qat", "quant_noise") else 3)
        for w in weights:
            bits = 4 if w == "conv2.weight" and not is_clamped(name) and name != "ptq" else 8
            self.check_weight(name, w, look["quantizers"][w], tensors, bits)

    def check_method(self, name):
        args, least = METHODS[name]
        self.detent("train", e2e.SMALL, "--out", "whole", *RUN, *args)
        self.run_killed("broken", *args)
        self.assert_same_run("whole", "broken")
        self.assertGreaterEqual(self.csv("whole")[-1]["best_top1"], least)
        self.check_rows(name)
        self.check_looks(name)

    def test_post_training(self):
        """Float weights, calibrated and not trained: about as good, done at once, and done when it is resumed."""
        first = self.train(e2e.SMALL, "float")["best_top1"]
        done = self.train(e2e.SMALL, "ptq", "--init", "float/best.safetensors", "--method", "ptq", "--bits", "w8a8")
        self.assertEqual((done["epoch"], done["step"]), (0, 0))
        self.assertGreaterEqual(done["best_top1"], first - 2)
        before = self.read("ptq", "metrics.jsonl")
        self.detent("train", "--resume", "ptq", "--data", e2e.DIGITS)
        self.assertEqual(before, self.read("ptq", "metrics.jsonl"))
        self.assertIn("accuracy %.2f %%" % done["best_top1"],
                      self.detent("eval", e2e.SMALL, "--resume", "ptq", "--data", e2e.DIGITS))


for method in METHODS:
    setattr(Methods, "test_" + method, lambda self, name=method: self.check_method(name))

if __name__ == "__main__":
    e2e.main()
