#!/usr/bin/env python3
"""A step as one graph and as many launches (--no-graph) is the same step: equal checkpoints and metrics."""
import unittest

import gpu
from gpu import e2e


class NoGraph(gpu.Case):
    def compare(self, net, data, *args):
        self.on_backend(net, "graph", *gpu.FEW, *args, data=data)
        self.on_backend(net, "launches", *gpu.FEW, *args, "--no-graph", data=data)
        self.assert_same_run("graph", "launches", ("last.safetensors", "metrics.jsonl"))

    def test_small_network(self):
        self.compare(e2e.SMALL, self.digits(), *gpu.LSQ)

    def test_noise(self):
        self.compare(e2e.SMALL, self.digits(), *gpu.NOISE)

    @unittest.skipUnless(gpu.REAL, "minutes on the simulated GPU")
    def test_resnet20(self):
        self.compare("resnet20", self.cifar10(), *gpu.LSQ)


if __name__ == "__main__":
    gpu.main()
