#!/usr/bin/env python3
"""The same seed gives the same bytes on a GPU: checkpoints and metrics, whether the kernels were compiled or came from the
disk cache.
"""
import unittest

import gpu
from gpu import e2e

SAME = ("last.safetensors", "metrics.jsonl")


class Determinism(gpu.Case):
    def same_twice(self, net, data, *args, second=()):
        self.on_backend(net, "a", *gpu.FEW, *args, data=data)
        self.on_backend(net, "b", *gpu.FEW, *args, *second, data=data)
        self.assert_same_run("a", "b", SAME)

    def test_small_network(self):
        self.same_twice(e2e.SMALL, self.digits(), *gpu.LSQ, second=("--cache", "off"))

    def test_noise(self):
        self.same_twice(e2e.SMALL, self.digits(), *gpu.NOISE, second=("--cache", "off"))

    def test_other_seed(self):
        for seed in ("1", "2"):
            self.on_backend(e2e.SMALL, "seed" + seed, *gpu.FEW, "--seed", seed, data=self.digits())
        self.assertNotEqual(self.read("seed1", "last.safetensors"), self.read("seed2", "last.safetensors"))

    @unittest.skipUnless(gpu.REAL, "minutes on the simulated GPU")
    def test_mnist(self):
        self.same_twice("mnist", e2e.DIGITS)

    @unittest.skipUnless(gpu.REAL, "minutes on the simulated GPU")
    def test_resnet20(self):
        self.same_twice("resnet20", self.cifar10(), *gpu.LSQ)


if __name__ == "__main__":
    gpu.main()
