#!/usr/bin/env python3
"""Every test picture of MNIST and CIFAR-10 by integer products, at w8a8, w4a4 and w2a2: the interpreter's logits, bit for
bit, from every instruction set of this machine on one to three threads. Needs the sets, which the environment names:

    DETENT_MNIST=DIR DETENT_CIFAR10=DIR ctest --preset release -R e2e_all_pictures

The interpreter takes its time: about half an hour of two cores. all_pictures.c does the comparing; here weights are
trained for some steps, so that codes use their range, and the pictures are shared out to processes.
"""
import os
import re
import subprocess
import unittest

import e2e

PROGRAM = os.environ.get("DETENT_ALL_PICTURES", os.path.join(os.path.dirname(e2e.DETENT), "tests", "e2e", "all_pictures"))
PICTURES, BATCH = 10000, 100
BITS = ("w8a8", "w4a4", "w2a2")
# data set, network, and top-1 that tells trained weights from others
ROWS = (("mnist", "mnist", 80), ("cifar10", "resnet20", 20))
TRAINING = ("--method", "lsq", "--epochs", "1", "--max-steps", "100", "--quiet")


class AllPictures(e2e.Case):
    def check_row(self, dataset, net, bits, least):
        variable = "DETENT_" + dataset.upper()
        data = os.environ.get(variable)
        if not data:
            self.skipTest("set %s to the directory of the whole %s" % (variable, dataset))
        data = os.path.abspath(data)
        self.detent("train", net, "--data", data, "--bits", bits, "--out", "run", *TRAINING)
        jobs = max(1, min(len(os.sched_getaffinity(0)), 16))
        share = -(-PICTURES // BATCH // jobs)
        seen = right = 0
        children = [subprocess.Popen([PROGRAM, net, self.path("run", "last.safetensors"), dataset, data, str(i * share), str(share)],
                                     env=dict(os.environ, XDG_CACHE_HOME=self.path("cache")), text=True,
                                     stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for i in range(jobs)]
        said = [child.communicate()[0] for child in children]
        for child, text in zip(children, said):
            found = re.search(r"^pictures=(\d+) backends=(\d+) right=(\d+)$", text, re.M)
            self.assertTrue(child.returncode == 0 and found, text)
            self.assertGreaterEqual(int(found[2]), 3)  # portable ones are everywhere, on one to three threads
            seen, right = seen + int(found[1]), right + int(found[3])
        print("%s %s: %d pictures, %s backends, %.2f %% right" % (net, bits, seen, found[2], 100 * right / seen), flush=True)
        self.assertEqual(seen, PICTURES)
        self.assertGreaterEqual(100 * right / seen, least)


for row in ROWS:
    for width in BITS:
        setattr(AllPictures, "test_%s_%s" % (row[0], width),
                lambda self, row=row, width=width: self.check_row(row[0], row[1], width, row[2]))

if __name__ == "__main__":
    e2e.main()
