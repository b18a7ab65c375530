#!/usr/bin/env python3
"""A hundred steps on the null GPU: every launch, copy and buffer of a run is checked against its plan, nothing is computed.
For networks that are too large for the simulated GPU. Losses mean nothing here; that the run ends well does.
"""
import unittest

import gpu
from gpu import e2e

STEPS = 100


class Null(gpu.Case):
    def hundred_steps(self, net, data, *args):
        self.on_backend(net, "run", *args, "--max-steps", str(STEPS), "--log-every", "1", data=data)
        self.assertEqual(sum("train_loss" in row and row["kind"] == "step" for row in self.jsonl("run")), STEPS)

    def test_mnist(self):
        self.hundred_steps("mnist", e2e.DIGITS, "--batch", "32")

    def test_mnist_lsq(self):
        self.hundred_steps("mnist", e2e.DIGITS, "--batch", "32", *gpu.LSQ)

    def test_mnist_noise(self):
        self.hundred_steps("mnist", e2e.DIGITS, "--batch", "32", *gpu.NOISE)

    def test_mnist_qsin(self):
        """Three phases, each with a train step of its own."""
        self.hundred_steps("mnist", e2e.DIGITS, "--batch", "32", "--epochs", "1", *gpu.METHODS["qsin"])

    def test_resnet20_qat(self):
        self.hundred_steps("resnet20", self.cifar10(), "--batch", "16", "--epochs", "10", *gpu.METHODS["qat"])

    def test_resnet20_lsq(self):
        self.hundred_steps("resnet20", self.cifar10(), "--batch", "16", "--epochs", "10", *gpu.LSQ)

    def test_resnet20_int8_without_graph(self):
        self.hundred_steps("resnet20", self.cifar10(), "--batch", "16", "--epochs", "10", *gpu.LSQ, "--forward", "int", "--no-graph")


if __name__ == "__main__":
    gpu.main()
