"""What the end-to-end tests share: running `detent` as a user would, killing it, and reading what it leaves behind.

Each test_NAME.py is a unittest program. CMake hands it DETENT (the program) and DETENT_SOURCE (the tree) in the
environment; by hand:

    DETENT=build/release/detent DETENT_SOURCE=. python3 tests/e2e/test_resume.py [-v] [Class.test]

Exit status 77: all tests were skipped, with the reasons on stderr (ctest calls it "Skipped").
"""
import array
import json
import os
import random
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest
import zlib

DETENT = os.path.abspath(os.environ.get("DETENT", "build/release/detent"))
SOURCE = os.path.abspath(os.environ.get("DETENT_SOURCE", "."))
DIGITS = os.path.join(SOURCE, "data/mnist-small")
SMALL = os.path.join(SOURCE, "tests/e2e/small.c")  # a network that trains in milliseconds a step
# What a run leaves that depends on its arguments alone. args.json and log.txt name paths and times.
SAME = ("last.safetensors", "best.safetensors", "metrics.jsonl", "metrics.csv", "events.out.tfevents.detent")
SKIPPED = 77
INTERRUPTED = 130


class Failed(Exception):
    """A command ended otherwise than it should; the text is all that it said."""


class Case(unittest.TestCase):
    """A temporary directory to run in, and the commands."""

    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="detent-e2e-")
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)

    def path(self, *names):
        return os.path.join(self.dir, *names)

    def start(self, *args):
        """A process whose stderr is read line by line."""
        return subprocess.Popen([DETENT, *args], cwd=self.dir, text=True, stdout=subprocess.DEVNULL,
                                stderr=subprocess.PIPE)

    def detent(self, *args, code=0):
        """Runs to the end; what it said on stdout and stderr."""
        done = subprocess.run([DETENT, *args], cwd=self.dir, text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT)
        if done.returncode != code:
            raise Failed("detent %s: exit code %d, expected %d\n%s" % (" ".join(args), done.returncode, code,
                                                                    done.stdout))
        return done.stdout

    def train(self, net, out, *args, data=DIGITS, code=0):
        """Trains into directory `out`; the last row of metrics.csv by column name, {} when no epoch was closed."""
        self.detent("train", net, "--data", data, "--out", out, *args, code=code)
        rows = self.csv(out)
        return rows[-1] if rows else {}

    def csv(self, run):
        with open(self.path(run, "metrics.csv")) as file:
            names = file.readline().strip().split(",")
            return [dict((name, float(x)) for name, x in zip(names, line.strip().split(",")) if x) for line in file]

    def jsonl(self, run):
        with open(self.path(run, "metrics.jsonl")) as file:
            return [json.loads(line) for line in file]

    def read(self, *names):
        with open(self.path(*names), "rb") as file:
            return file.read()

    def tensors(self, run, name="last.safetensors"):
        """f32 tensors of a checkpoint by name. The layout: u64 length, JSON header, data."""
        data = self.read(run, name)
        start = 8 + int.from_bytes(data[:8], "little")
        found = {}
        for key, t in json.loads(data[8:start]).items():
            if key != "__metadata__" and t["dtype"] == "F32":
                lo, hi = t["data_offsets"]
                found[key] = array.array("f", data[start + lo:start + hi])
        return found

    def assert_same_run(self, a, b, names=SAME):
        for name in names:
            self.assertTrue(self.read(a, name) == self.read(b, name), "%s of %s and %s differ" % (name, a, b))


def write_digits(path, train, test):
    """Pictures in MNIST's layout, the class a bar at one of ten heights: for runs that need few and quick epochs."""
    chance = random.Random(28)
    os.makedirs(path)
    for name, count in (("train", train), ("t10k", test)):
        labels = [chance.randrange(10) for _ in range(count)]
        pixels = bytearray(chance.randrange(64) for _ in range(count * 28 * 28))
        for i, label in enumerate(labels):
            at = (i * 28 + 4 + 2 * label) * 28
            pixels[at:at + 28] = bytes([255]) * 28
        with open(os.path.join(path, name + "-images-idx3-ubyte"), "wb") as file:
            file.write(struct.pack(">4I", 0x803, count, 28, 28) + pixels)
        with open(os.path.join(path, name + "-labels-idx1-ubyte"), "wb") as file:
            file.write(struct.pack(">2I", 0x801, count) + bytes(labels))
    return path


def write_png(path, width, height, pixels):
    """RGB, 8 bits: rows of width * 3 bytes."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    rows = b"".join(b"\0" + pixels[y * width * 3:(y + 1) * width * 3] for y in range(height))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)) +
                   chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def smooth(chance, width, height):
    """A picture whose neighbouring pixels are alike."""
    at, slope = [chance.uniform(40, 200) for _ in range(3)], [chance.uniform(-2, 2) for _ in range(6)]
    return [min(max(at[c] + slope[c] * (x - width / 2) + slope[3 + c] * (y - height / 2), 0), 255)
            for y in range(height) for x in range(width) for c in range(3)]


def write_pairs(path, count, width, height, sigma=20):
    """Smooth pictures, and the same with noise: the layout of the data set "pairs"."""
    chance = random.Random(5)
    for i in range(count):
        clean = smooth(chance, width, height)
        noisy = [min(max(v + chance.gauss(0, sigma), 0), 255) for v in clean]
        for folder, pixels in (("clean", clean), ("noisy", noisy)):
            write_png(os.path.join(path, folder, "%02d.png" % i), width, height, bytes(round(v) for v in pixels))
    return path


def write_folder(path, train, test, width, height, classes=("red", "green", "blue")):
    """Pictures in folders of their classes, in which one channel is brighter."""
    chance = random.Random(6)
    for split, count in (("train", train), ("val", test)):
        for i in range(count):
            k = i % len(classes)
            pixels = bytearray(chance.randrange(128) for _ in range(width * height * 3))
            for j in range(k % 3, len(pixels), 3):
                pixels[j] += 100
            write_png(os.path.join(path, split, classes[k], "%03d.png" % i), width, height, bytes(pixels))
    return path


def steps_shown(line):
    """Is this one of the lines that are printed every --log-every steps?"""
    return re.match(r"epoch \d+/\d+  step \d+/\d+ ", line) is not None


def main():
    result = unittest.main(exit=False, module="__main__").result
    for test, why in result.skipped:
        print("skipped %s: %s" % (test.id().split(".", 1)[1], why), file=sys.stderr)
    if result.wasSuccessful() and result.testsRun and len(result.skipped) == result.testsRun:
        sys.exit(SKIPPED)
    sys.exit(not result.wasSuccessful())
