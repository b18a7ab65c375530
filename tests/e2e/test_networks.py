#!/usr/bin/env python3
"""Every network and backend runs from the command line: ResNet-20 on files in the layout of CIFAR-10, and the same small
network compiled and interpreted.

The two backends differ in the library's float products alone, whose sums run in another order. In float that is the
rounding of a few steps (tolerance 1e-4 of a tensor's largest element; measured: under 1e-5). Under quantizers a value
near a rounding boundary may take the other code, a whole step size apart, so there only losses are compared: those of
the first step, and loosely those of the steps after it (8 bits; measured: 1e-6, 2e-4).
"""
import os
import random
import unittest

import e2e

FEW = ("--max-steps", "3", "--log-every", "1")


def write_cifar10(path, records=24):
    """Five files to train with and one to test: records of a label and 3 x 32 x 32 bytes, the class a shade of grey."""
    chance = random.Random(10)
    os.makedirs(path)
    for name in ["data_batch_%d.bin" % i for i in range(1, 6)] + ["test_batch.bin"]:
        with open(os.path.join(path, name), "wb") as file:
            for i in range(records):
                label = i % 10
                file.write(bytes([label]) + bytes(min(255, 25 * label + chance.randrange(25)) for _ in range(3072)))
    return path


class ResNet20(e2e.Case):
    def test_few_steps(self):
        data = write_cifar10(self.path("cifar-10-batches-bin"))
        for out, args in (("float", ()), ("lsq", ("--method", "lsq", "--bits", "w4a4", "--layer", "s0.*=w8a8"))):
            self.train("resnet20", out, *args, "--batch", "20", "--epochs", "1", "--log-every", "1", data=data)
            rows = self.jsonl(out)
            kinds = [row["kind"] for row in rows]
            self.assertEqual(kinds, ["step"] * 6 + ["inspect"] * (out == "lsq") + ["weights", "epoch"])
            self.assertLess(rows[0]["train_loss"], 6)
            self.assertEqual(self.csv(out)[0]["step"], 6)
        self.assertIn("s0.b0.conv1.weight.step", self.tensors("lsq"))


class Backends(e2e.Case):
    def compare(self, *args):
        data = e2e.write_digits(self.path("digits"), train=24, test=8)
        for backend in ("cpu", "interp"):
            self.train(e2e.SMALL, backend, "--backend", backend, "--batch", "8", "--lr", "0.02", *FEW,
                       "--inspect-every", "0", *args, data=data)
        return zip(self.jsonl("cpu"), self.jsonl("interp"))

    def test_float(self):
        for a, b in self.compare():
            self.assertAlmostEqual(a["train_loss"], b["train_loss"], delta=1e-4)
        cpu, interp = self.tensors("cpu"), self.tensors("interp")
        self.assertEqual(cpu.keys(), interp.keys())
        for name in cpu:
            size = max(map(abs, interp[name]))
            worst = max(abs(a - b) for a, b in zip(cpu[name], interp[name]))
            self.assertLessEqual(worst, 1e-4 * size + 1e-7, name)

    def test_quantized(self):
        first, *rest = self.compare("--method", "lsq", "--bits", "w8a8")
        self.assertAlmostEqual(*(row["train_loss"] for row in first), delta=1e-3)
        for a, b in rest:
            self.assertAlmostEqual(a["train_loss"], b["train_loss"], delta=0.02)


if __name__ == "__main__":
    e2e.main()
