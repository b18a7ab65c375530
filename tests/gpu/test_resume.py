#!/usr/bin/env python3
"""A run on a GPU that was killed and resumed leaves the bytes of a run that was left alone. (tests/e2e/test_resume.py kills
at twenty moments on the CPU; what is new here is what a GPU holds: memory, staged batches, steps that were begun.)
"""
import os
import random
import re
import shutil
import signal
import time
import unittest

import gpu
from gpu import e2e

SIZE = ("--epochs", "2", "--batch", "100", "--save-every", "5") if gpu.REAL else ("--epochs", "4", "--batch", "8", "--save-every", "1")
RUN = (*SIZE, "--log-every", "1")
KILLS, MOST_TRIES = (6, 20) if gpu.REAL else (2, 20)
MOST_STEPS = 40 if gpu.REAL else 3  # that a process lives


class Resume(gpu.Case):
    def start_or_resume(self, out, data, method):
        """A process killed before args.json was there left nothing to resume."""
        if os.path.exists(self.path(out, "args.json")):
            return self.start("train", "--resume", out, "--data", data, "--backend", gpu.BACKEND)
        return self.start("train", e2e.SMALL, "--out", out, "--data", data, "--backend", gpu.BACKEND, *method, *RUN)

    def kill_after(self, process, lines, delay_s):
        said, seen = [], 0
        for line in process.stderr:
            said.append(line)
            seen += e2e.steps_shown(line)
            if seen >= lines:
                time.sleep(delay_s)
                process.kill()
                break
        said += process.stderr.readlines()
        process.stderr.close()
        return "".join(said), process.wait()

    def killed(self, method):
        data = self.digits()
        self.detent("train", e2e.SMALL, "--out", "whole", "--data", data, "--backend", gpu.BACKEND, *method, *RUN)
        chance, killed = random.Random(7), 0
        for _ in range(MOST_TRIES):
            said, status = self.kill_after(self.start_or_resume("broken", data, method), chance.randint(1, MOST_STEPS), chance.uniform(0, 0.02))
            self.assertIn(status, (-signal.SIGKILL, 0), said)
            killed += status != 0
            if killed == KILLS:
                break
            if status == 0:  # it was faster: it must be right, and the next kills are for another one
                self.assert_same_run("whole", "broken")
                shutil.rmtree(self.path("broken"))
        self.assertGreater(killed, 0)
        said, status = self.kill_after(self.start_or_resume("broken", data, method), 1 << 30, 0)
        self.assertEqual(status, 0, said)
        self.assert_same_run("whole", "broken")

    def test_killed(self):
        self.killed(gpu.LSQ)

    def test_killed_noise(self):
        """The mask of a step is drawn from its number: the resumed run draws the same."""
        self.killed(gpu.NOISE)

    @unittest.skipUnless(gpu.REAL, "seconds a picture on the simulated GPU")
    def test_checkpoint_moves(self):
        """What a GPU saved other backends read: weights lie in one layout in files, whatever a backend's own is. Of 200
        pictures one may stand between two classes and fall to the other side."""
        self.on_backend(e2e.SMALL, "run", *gpu.LSQ, *gpu.FEW, data=e2e.DIGITS)
        data = e2e.write_digits(self.path("few"), train=8, test=200)
        said = [self.detent("eval", "--resume", "run", "--data", data, "--backend", b) for b in ("cuda", "interp")]
        right = [int(re.search(r"\((\d+) of 200\)", text)[1]) for text in said]
        self.assertLessEqual(abs(right[0] - right[1]), 2, said)


if __name__ == "__main__":
    gpu.main()
