#!/usr/bin/env python3
"""`detent check` on a GPU: every kernel of a network's programs against the interpreter bit for bit, every library call
against plain loops within its bound.
"""
import unittest

import gpu
from gpu import e2e

METHODS = {"float": (), "lsq_w2a2": ("--method", "lsq", "--bits", "w2a2"), "lsq_int8": (*gpu.LSQ, "--forward", "int"), **gpu.METHODS}


class Check(gpu.Case):
    def check(self, net, *args, batch="4"):
        said = self.detent("check", net, *args, "--batch", batch, "--backend", gpu.BACKEND)
        self.assertIn("all is well", said)
        for step in ("train", "eval", *(("observe", "inspect") if "--method" in args else ())):
            self.assertRegex(said, r"kernel +%s step" % step)


def add_test(net, name, args, batch):
    test_name = "test_%s_%s" % ("small" if net == e2e.SMALL else net, name)
    setattr(Check, test_name, lambda self: self.check(net, *args, batch=batch))


for method, options in METHODS.items():
    if gpu.REAL:
        add_test("mnist", method, options, "8")
        add_test("resnet20", method, options, "8")
    add_test(e2e.SMALL, method, options, "2")

if __name__ == "__main__":
    gpu.main()
