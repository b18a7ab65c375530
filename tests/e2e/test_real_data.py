#!/usr/bin/env python3
"""Accuracy on the whole sets, where the environment names their directories:

    DETENT_MNIST=DIR DETENT_CIFAR10=DIR ctest --preset release -R e2e_real_data      many minutes

In three epochs each: MNIST float 98.8 %, w4a4 98.7 %, w2a2 98.0 %; CIFAR-10 (ResNet-20) float 60 %, w4a4 55 %.
"""
import os
import unittest

import e2e

# dataset, network, bits, top-1 to reach in three epochs
ROWS = (
    ("mnist", "mnist", "float", 98.8),
    ("mnist", "mnist", "w4a4", 98.7),
    ("mnist", "mnist", "w2a2", 98.0),
    ("cifar10", "resnet20", "float", 60),
    ("cifar10", "resnet20", "w4a4", 55),
)


class RealData(e2e.Case):
    def train_row(self, dataset, net, bits, least):
        variable = "DETENT_" + dataset.upper()
        data = os.environ.get(variable)
        if not data:
            self.skipTest("set %s to the directory of the whole %s" % (variable, dataset))
        method = () if bits == "float" else ("--method", "lsq", "--bits", bits)
        best = self.train(net, "run", "--epochs", "3", *method, data=os.path.abspath(data))["best_top1"]
        print("%s %s: %.2f %%, expected %.1f %%" % (net, bits, best, least), flush=True)
        self.assertGreaterEqual(best, least)


for row in ROWS:
    setattr(RealData, "test_%s_%s" % (row[0], row[2]), lambda self, row=row: self.train_row(*row))

if __name__ == "__main__":
    e2e.main()
