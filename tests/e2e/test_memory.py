#!/usr/bin/env python3
"""The largest batch that `detent plan` names for a given memory: a training run at that batch, with evaluation, diagnosis and
checkpoints, stays under it as a whole process, and uses most of it. A run that is told to keep to a limit makes values again in
backward and leaves the bytes of one that is not, also where it is resumed with another limit.
"""
import json
import os
import re
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

    def train(self, out, *args, limit=None):
        """What a run of six steps said, and the bytes of its checkpoint."""
        memory = () if limit is None else ("--memory", str(limit))
        done = subprocess.run([e2e.DETENT, "train", *args, *memory, "--data", e2e.DIGITS], cwd=self.dir, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stdout)
        with open(self.path(os.path.join(out, "last.safetensors")), "rb") as f:
            return done.stdout, f.read()

    def test_a_limit_changes_no_bit(self):
        """Float: with quantizers the peak of this network is of values that nothing can save."""
        recipe = ("mnist", "--batch", "700", "--epochs", "1", "--save-every", "3", "--inspect-every", "0")
        short = subprocess.run([e2e.DETENT, "train", *recipe, "--data", e2e.DIGITS, "--memory", "20M"], cwd=self.dir,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        self.assertEqual(short.returncode, 1, short.stdout)
        least = float(re.search(r"needs at least ([0-9.]+) MiB", short.stdout).group(1))
        tight, wide = int((least + 12) * (1 << 20)), int((least + 40) * (1 << 20))
        said, whole = self.train("whole", *recipe, "--out", "whole", "--max-steps", "6")
        self.assertNotIn("made again", said)
        said, limited = self.train("tight", *recipe, "--out", "tight", "--max-steps", "6", limit=tight)
        self.assertIn("are made again", said)
        self.assertEqual(whole, limited)
        self.train("cut", *recipe, "--out", "cut", "--max-steps", "3", limit=tight)
        said, resumed = self.train("cut", "--resume", "cut", "--max-steps", "6", limit=wide)
        self.assertEqual(whole, resumed)

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
