#!/usr/bin/env python3
"""How a network is trained, through the whole program: every optimizer learns, in float and in four bits; what is frozen
stays; a teacher helps; and with all of it at once a run that was cut in two has the bytes of one that was not.
"""
import os
import unittest

import e2e

OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop", "rmsprop-tf", "adadelta")
LSQ = ("--method", "lsq", "--bits", "w4a4")
RATES = {"rmsprop": "0.001", "adadelta": "0.5"}  # beside those that optimizers have by themselves
ALL = (*LSQ, "--optimizer", "adamw", "--lr", "0.002", "--clip-norm", "0.5", "--clip-value", "0.1", "--accumulate", "3", "--ema",
       "0.9", "--distill-weight", "0.3", "--temperature", "2", "--freeze", "conv1.*@0.5", "--freeze", "*.beta@1",
       "--label-smoothing", "0.1", "--schedule", "one-cycle:0.4", "--log-every", "1", "--save-every", "4", "--step-lr", "0.1")


class Optimizers(e2e.Case):
    def setUp(self):
        super().setUp()
        self.data = e2e.write_digits(self.path("digits"), 900, 200)

    def run_of(self, out, *args, **more):
        return self.train(e2e.SMALL, out, "--batch", "50", *args, data=self.data, **more)

    def test_each_learns(self):
        for name in OPTIMIZERS:
            rate = ("--lr", RATES[name]) if name in RATES else ()
            with self.subTest(optimizer=name):
                self.assertGreater(self.run_of(name, "--optimizer", name, "--epochs", "4", *rate)["best_top1"], 80)
                quantized = self.run_of(name + "-lsq", *LSQ, "--optimizer", name, "--epochs", "2", *rate, "--init",
                                        name + "/best.safetensors")
                self.assertGreater(quantized["best_top1"], 80)

    def test_schedules(self):
        """The rate of the last step of each epoch, as metrics.csv has it."""
        for text, rates in (("exp:0.5:1", (0.1, 0.05, 0.025)), ("poly", (0.1 * (1 - 17 / 54), 0.1 * (1 - 35 / 54),
                                                                         0.1 * (1 - 53 / 54))), ("constant", (0.1,) * 3)):
            self.run_of("run-" + text, "--schedule", text, "--epochs", "3", "--lr", "0.1")
            for row, rate in zip(self.csv("run-" + text), rates):
                self.assertAlmostEqual(row["lr"], rate, places=6)

    def test_frozen(self):
        self.run_of("first", "--epochs", "1")
        self.run_of("frozen", "--epochs", "2", "--freeze", "conv1.*", "--freeze", "bn2.gamma@1", "--init",
                    "first/best.safetensors")
        first, last = self.tensors("first", "best.safetensors"), self.tensors("frozen")
        self.assertEqual(first["conv1.weight"], last["conv1.weight"])
        self.assertNotIn("conv1.weight.velocity", last)
        for name in ("bn2.gamma", "conv2.weight", "bn1.gamma"):
            self.assertNotEqual(first[name], last[name])

    def test_teacher(self):
        """With nothing but the teacher's answers to learn from, a network comes near it."""
        teacher = self.run_of("teacher", "--epochs", "4")
        pupil = self.run_of("pupil", "--epochs", "4", "--teacher", "teacher/best.safetensors", "--distill-weight", "1")
        self.assertGreater(pupil["best_top1"], teacher["best_top1"] - 10)
        rows = [row for row in self.jsonl("pupil") if row["kind"] == "epoch"]
        self.assertTrue(all("train_loss:teacher" in row and "train_loss:cross_entropy" in row for row in rows))
        self.assertLess(rows[-1]["train_loss:teacher"], 0.5 * rows[0]["train_loss:teacher"])

    def test_everything_at_once(self):
        """Once more; and cut in the middle of an accumulation, with the teacher's file lost before it goes on."""
        self.run_of("float", "--epochs", "2")
        args = (*ALL, "--init", "float/best.safetensors", "--teacher", "float/best.safetensors", "--epochs", "2")
        self.run_of("whole", *args)
        self.run_of("again", *args)
        self.assert_same_run("whole", "again")
        self.run_of("cut", *args, "--max-steps", "11")
        os.rename(self.path("float", "best.safetensors"), self.path("elsewhere"))
        self.detent("train", "--resume", "cut")
        self.assert_same_run("whole", "cut")

    def test_backends(self):
        """The CUDA text on a simulated GPU beside the interpreter: all that updates keep. Weights lie in another order there,
        so sums over them - the norm that clips - differ in their last bits."""
        self.run_of("float", "--epochs", "1")
        args = (*ALL, "--init", "float/best.safetensors", "--teacher", "float/best.safetensors", "--epochs", "1", "--batch", "10",
                "--max-steps", "7")
        for name in OPTIMIZERS:
            with self.subTest(optimizer=name):
                for backend in ("interp", "sim"):
                    self.run_of(name + backend, *args, "--optimizer", name, "--backend", backend)
                a, b = (self.tensors(name + backend) for backend in ("interp", "sim"))
                self.assertEqual(sorted(a), sorted(b))
                for key in a:
                    for x, y in zip(a[key], b[key]):
                        self.assertLess(abs(x - y), 1e-4 * (1 + abs(x)), key)


if __name__ == "__main__":
    e2e.main()
