#!/usr/bin/env python3
"""The largest batch that `detent plan` names for a given memory: a training run at that batch, with evaluation, diagnosis and
checkpoints, stays under it as a whole process, and uses most of it.
"""
import json
import os
import subprocess

import e2e

LIMIT = 400 << 20
METHODS = {"float": (), "lsq": ("--bits", "w4a4")}


class Memory(e2e.Case):
    def peak(self, *args):
        """Bytes that a run had in memory at most."""
        with open(self.path("said"), "w") as said:
            child = subprocess.Popen([e2e.DETENT, "train", *args], cwd=self.dir, stdout=said, stderr=said)
            _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        with open(self.path("said")) as said:
            self.assertEqual(child.returncode, 0, said.read())
        return used.ru_maxrss * 1024

    def test_largest_batch(self):
        for method, options in METHODS.items():
            recipe = ("mnist", "--method", method, *options)
            plan = json.loads(subprocess.run([e2e.DETENT, "plan", *recipe, "--memory", str(LIMIT), "--json"], stdout=subprocess.PIPE,
                                             stderr=subprocess.DEVNULL, check=True, text=True).stdout)
            batch = plan["methods"][0]["largest_batch"]
            self.assertGreater(batch, 50)
            peak = self.peak(*recipe, "--data", e2e.DIGITS, "--out", method, "--batch", str(batch), "--max-steps", "3")
            self.assertLessEqual(peak, LIMIT, "%s, batch %d" % (method, batch))
            self.assertGreater(peak, LIMIT - plan["data"] - LIMIT // 5, "%s, batch %d" % (method, batch))  # the set is smaller here


if __name__ == "__main__":
    e2e.main()
