#!/usr/bin/env python3
"""A run that was killed, again and again, at any moment, and resumed until it is done leaves the bytes of a run that was
left alone: checkpoints and metrics. So does one that was stopped by Ctrl-C, one that --max-steps cut in two, and one that
met a full disk.

    DETENT_KILLS=100 DETENT_KILL_NETS=all    kills in all, over short runs of all networks of models/ (many minutes)
"""
import os
import random
import shutil
import signal
import subprocess
import time
import unittest

import e2e

RUN = ("--data", e2e.DIGITS, "--method", "lsq", "--bits", "w4a4", "--epochs", "2", "--save-every", "5", "--log-every",
       "1")
KILLS = int(os.environ.get("DETENT_KILLS", 24))
NETS = os.path.join(e2e.SOURCE, "tests/nets")


class Net:
    """A short run: data by the name of a function below; what else than the usual files must be the same."""

    def __init__(self, net, data, *args, more=()):
        self.net, self.data, self.args = net, data, args
        self.names = e2e.SAME + more


USUAL = ("--epochs", "2", "--log-every", "1")
LSQ = ("--method", "lsq", "--bits", "w4a4")
NETWORKS = {
    "small": Net(e2e.SMALL, "digits", *LSQ, *USUAL, "--save-every", "5"),
    "denoise": Net(os.path.join(NETS, "denoise.c"), "pairs", *LSQ, *USUAL, "--save-every", "2", "--crops", "3", "--optimizer",
                   "adam", "--lr", "0.01", "--ema", "0.9", "--accumulate", "2", "--reestimate-bn", "2", "--keep-every", "1",
                   more=("epoch-0001.safetensors", "images/index.json")),
    "tiny": Net(os.path.join(NETS, "rgb.c"), "folder", "--save-every", "3", *USUAL, "--mixup", "0.4", "--colour", "0.4",
                "--erase", "0.3", "--randaugment", "2", "--clip-norm", "1", "--label-smoothing", "0.1"),
}
SLOW = ("--method", "lsq", "--bits", "w8a8", "--lr", "1e-6")  # deep ones that a larger rate makes infinite at once
CLASSES = ("--dataset", "folder", "--classes", "3", "--image", "32", "--batch", "4", "--save-every", "2", *USUAL)
PAIRS = ("--dataset", "pairs", "--image", "32", "--batch", "4", "--crops", "2", "--save-every", "2", *USUAL)
MODELS = {net: Net(net, "folder", *LSQ, *CLASSES) for net in ("resnet20", "vgg_small")}
MODELS.update({net: Net(net, "folder", *SLOW, *CLASSES) for net in ("mobilenetv2", "efficientnet_b3")})
MODELS.update({net: Net(net, "pairs", *LSQ, *PAIRS) for net in ("unet", "cbdnet")})
if os.environ.get("DETENT_KILL_NETS") == "all":
    NETWORKS.update(MODELS)


class Resume(e2e.Case):
    def data(self, kind):
        """Made once for each test."""
        if kind == "digits":
            return e2e.DIGITS
        path = self.path(kind)
        if os.path.exists(path):
            return path
        if kind == "pairs":
            return e2e.write_pairs(path, 10, 40, 36)
        return e2e.write_folder(path, 36, 9, 40, 36)

    def start_or_resume(self, out, net=NETWORKS["small"]):
        """A process killed before args.json was there left nothing to resume."""
        if os.path.exists(self.path(out, "args.json")):
            return self.start("train", "--resume", out, "--data", self.data(net.data))
        return self.start("train", net.net, "--out", out, "--data", self.data(net.data), *net.args)

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

    def finish(self, out, net=NETWORKS["small"]):
        process = self.start_or_resume(out, net)
        said = process.stderr.read()
        process.stderr.close()
        self.assertEqual(process.wait(), 0, said)

    def kill_one(self, chance, out, net):
        """Starts or resumes the run and kills it at a random moment. Whether it was killed before it was done."""
        process = self.start_or_resume(out, net)
        if chance.random() < 0.2:  # while it starts: compiles, reads, makes the directory
            time.sleep(chance.uniform(0, 0.4))
            process.kill()
            said = process.stderr.read()
            process.stderr.close()
            status = process.wait()
        else:
            said, status = self.kill_after(process, chance.randint(1, 12), chance.uniform(0, 0.02))
        self.assertIn(status, (-signal.SIGKILL, 0), said)
        return status == -signal.SIGKILL

    def kill_often(self, name, kills):
        net, chance, out, whole = NETWORKS[name], random.Random(name), name, name + "-whole"
        self.detent("train", net.net, "--out", whole, "--data", self.data(net.data), *net.args)
        killed = 0
        while killed < kills:
            if self.kill_one(chance, out, net):
                killed += 1
            else:  # it was faster: it must be right, and the next kills are for another one
                self.assert_same_run(whole, out, net.names)
                shutil.rmtree(self.path(out))
        self.finish(out, net)
        self.assert_same_run(whole, out, net.names)
        self.assertEqual(len(self.csv(out)), 2)

    def test_killed_at_any_moment(self):
        each = -(-KILLS // len(NETWORKS))
        for name in NETWORKS:
            with self.subTest(net=name):
                self.kill_often(name, each)

    def test_damaged_last(self):
        """The checkpoint before it is used, and both are named."""
        self.detent("train", e2e.SMALL, "--out", "whole", *RUN)
        self.detent("train", e2e.SMALL, "--out", "broken", *RUN, "--max-steps", "73")
        data = bytearray(self.read("broken", "last.safetensors"))
        data[len(data) // 2] ^= 1
        os.remove(self.path("broken", "last.safetensors"))
        with open(self.path("broken", "last.safetensors"), "wb") as file:
            file.write(data)
        said = self.detent("train", "--resume", "broken", "--data", e2e.DIGITS)
        self.assertIn("broken/last.safetensors cannot be used: the run goes on from broken/last.previous.safetensors, after "
                      "step 70", said)
        self.assert_same_run("whole", "broken")

    def test_full_disk(self):
        """A small disk of its own: the run stops with a message, and goes on where there is room."""
        disk = self.path("disk")
        os.mkdir(disk)
        mount = ("mount", "-t", "tmpfs", "-o", "size=1m", "detent-test", disk)
        if subprocess.run(mount, stderr=subprocess.DEVNULL).returncode:
            self.skipTest("a tmpfs can be mounted by root alone")
        self.addCleanup(subprocess.run, ["umount", disk])
        self.detent("train", e2e.SMALL, "--out", "whole", *RUN)
        self.detent("train", e2e.SMALL, "--out", "disk/run", *RUN, "--max-steps", "20")
        room = os.statvfs(disk)
        size = len(self.read("disk/run", "last.safetensors"))
        with open(os.path.join(disk, "filler"), "wb") as file:
            file.write(b"x" * max(room.f_bavail * room.f_bsize - size // 2, 0))
        said = self.detent("train", "--resume", "disk/run", "--data", e2e.DIGITS, code=1)
        self.assertIn("No space left on device", said)
        self.assertRegex(said, r"disk/run/last.safetensors is whole, as it was after step \d+")
        self.detent("eval", e2e.SMALL, "--data", e2e.DIGITS, "--checkpoint", "disk/run/last.safetensors")
        self.assertEqual([], [name for name in os.listdir(os.path.join(disk, "run")) if name.endswith(".tmp")])
        os.remove(os.path.join(disk, "filler"))
        self.detent("train", "--resume", "disk/run", "--data", e2e.DIGITS)
        self.assert_same_run("whole", "disk/run")

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
