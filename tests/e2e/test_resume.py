#!/usr/bin/env python3
"""A run that was killed, again and again, at any moment, and resumed until it is done leaves the bytes of a run that was
left alone: checkpoints and metrics. So does one that was stopped by Ctrl-C, and one that --max-steps cut in two.
"""
import os
import random
import shutil
import signal
import time
import unittest

import e2e

RUN = ("--data", e2e.DIGITS, "--method", "lsq", "--bits", "w4a4", "--epochs", "2", "--save-every", "5", "--log-every",
       "1")
KILLS = 20


class Resume(e2e.Case):
    def start_or_resume(self, out):
        """A process killed before args.json was there left nothing to resume."""
        if os.path.exists(self.path(out, "args.json")):
            return self.start("train", "--resume", out, "--data", e2e.DIGITS)
        return self.start("train", e2e.SMALL, "--out", out, *RUN)

    def kill_after(self, process, lines, delay_s, number=signal.SIGKILL):
        """Sends the signal after so many steps and a bit. What was said, and the exit status."""
        said, seen = [], 0
        for line in process.stderr:
            said.append(line)
            seen += e2e.steps_shown(line)
            if seen >= lines:
                time.sleep(delay_s)
                process.send_signal(number)
                break
        said += process.stderr.readlines()
        process.stderr.close()
        return "".join(said), process.wait()

    def finish(self, out):
        process = self.start_or_resume(out)
        said = process.stderr.read()
        process.stderr.close()
        self.assertEqual(process.wait(), 0, said)

    def test_killed_at_any_moment(self):
        self.detent("train", e2e.SMALL, "--out", "whole", *RUN)
        chance = random.Random(20)
        killed = 0
        while killed < KILLS:
            process = self.start_or_resume("broken")
            if chance.random() < 0.2:  # while it starts: compiles, reads, makes the directory
                time.sleep(chance.uniform(0, 0.4))
                process.kill()
                said = process.stderr.read()
                process.stderr.close()
                status = process.wait()
            else:
                said, status = self.kill_after(process, chance.randint(1, 12), chance.uniform(0, 0.02))
            self.assertIn(status, (-signal.SIGKILL, 0), said)
            killed += status == -signal.SIGKILL
            if status == 0:  # it was faster: it must be right, and the next kills are for another one
                self.assert_same_run("whole", "broken")
                shutil.rmtree(self.path("broken"))
        self.finish("broken")
        self.assert_same_run("whole", "broken")
        self.assertEqual(len(self.csv("broken")), 2)

    def test_interrupted(self):
        self.detent("train", e2e.SMALL, "--out", "whole", *RUN)
        process = self.start("train", e2e.SMALL, "--out", "stopped", *RUN)
        said, status = self.kill_after(process, 23, 0, signal.SIGINT)
        self.assertEqual(status, e2e.INTERRUPTED, said)
        self.assertIn("detent train --resume stopped", said)
        self.finish("stopped")
        self.assert_same_run("whole", "stopped")

    def test_limited(self):
        self.detent("train", e2e.SMALL, "--out", "whole", *RUN)
        self.detent("train", e2e.SMALL, "--out", "half", *RUN, "--max-steps", "73")
        self.assertNotEqual(self.read("whole", "last.safetensors"), self.read("half", "last.safetensors"))
        self.finish("half")
        self.assert_same_run("whole", "half")

    def test_done_is_done(self):
        self.detent("train", e2e.SMALL, "--out", "done", *RUN, "--max-steps", "7")
        self.detent("train", "--resume", "done", "--max-steps", "7")
        before = self.read("done", "last.safetensors")
        self.detent("train", "--resume", "done", "--max-steps", "7")
        self.assertEqual(before, self.read("done", "last.safetensors"))


if __name__ == "__main__":
    e2e.main()
