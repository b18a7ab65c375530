#!/usr/bin/env python3
"""The same seed gives the same bytes, whatever else the machine does.

What is promised: the same arguments on the same machine with the same number of threads give equal checkpoints and
metrics. Generated kernels do not even depend on threads or vector width; the convolutions of oneDNN do (each thread sums
its part of a weight's gradient), so between numbers of threads runs agree closely and are not equal. Where no
convolution has its gradient summed by threads - plain loops, `--backend=interp` - threads change nothing.
"""
import os
import unittest
from unittest import mock

import e2e

LSQ = ("--method", "lsq", "--bits", "w4a4")


class Determinism(e2e.Case):
    def test_same_seed_twice(self):
        for out in ("a", "b"):
            self.train(e2e.SMALL, out, *LSQ, "--epochs", "2", "--log-every", "7")
        self.assert_same_run("a", "b")

    def test_same_seed_twice_mnist(self):
        for out in ("a", "b"):
            self.train("mnist", out, *LSQ, "--max-steps", "12", "--log-every", "1", "--threads", "2")
        self.assert_same_run("a", "b", ("last.safetensors", "metrics.jsonl", "metrics.csv"))
        self.assertEqual(len(self.jsonl("a")), 12)

    def test_other_seed(self):
        for out, seed in (("a", "1"), ("b", "2")):
            self.train(e2e.SMALL, out, "--max-steps", "2", "--log-every", "1", "--seed", seed)
        self.assertNotEqual(self.read("a", "metrics.jsonl"), self.read("b", "metrics.jsonl"))
        self.assertNotEqual(self.tensors("a")["conv1.weight"], self.tensors("b")["conv1.weight"])

    def test_vector_width_changes_nothing(self):
        for width in ("4", "8", "0"):
            self.train(e2e.SMALL, "w" + width, *LSQ, "--max-steps", "12", "--log-every", "1", "--vector-width", width)
        for width in ("4", "8"):
            self.assert_same_run("w" + width, "w0", ("last.safetensors", "metrics.jsonl"))

    def test_threads(self):
        for threads in ("1", "2"):
            self.train(e2e.SMALL, "t" + threads, *LSQ, "--max-steps", "12", "--log-every", "1", "--threads", threads)
        one, two = self.jsonl("t1"), self.jsonl("t2")
        self.assertEqual(one[0]["train_loss"], two[0]["train_loss"])  # no weight's gradient is in it yet
        for a, b in zip(one, two):
            self.assertAlmostEqual(a["train_loss"], b["train_loss"], delta=0.05)

    def test_thread_limit(self):
        """Fewer threads than asked for: oneDNN would wait for the others forever."""
        small = (*LSQ, "--max-steps", "2", "--log-every", "1")
        self.train(e2e.SMALL, "one", *small, "--threads", "1")
        with mock.patch.dict(os.environ, OMP_THREAD_LIMIT="1"):
            self.train(e2e.SMALL, "limited", *small, "--threads", "2")
        self.assert_same_run("one", "limited", ("last.safetensors", "metrics.jsonl"))

    def test_threads_without_library(self):
        data = e2e.write_digits(self.path("digits"), train=16, test=8)
        for threads in ("1", "2"):
            self.train(e2e.SMALL, "i" + threads, *LSQ, "--batch", "4", "--max-steps", "2", "--log-every", "1",
                       "--backend", "interp", "--threads", threads, data=data)
        self.assert_same_run("i1", "i2", ("last.safetensors", "metrics.jsonl"))


if __name__ == "__main__":
    e2e.main()
