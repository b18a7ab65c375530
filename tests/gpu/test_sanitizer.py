#!/usr/bin/env python3
"""NVIDIA's compute-sanitizer on a few steps: no access out of bounds, no race in shared memory, nothing read that was
never written. The last two look at generated kernels alone, found by their names in the dumped text: what cuDNN does in
its own is not ours to judge.

The simulated GPU finds the same kinds of faults on any machine; this is what the hardware says.
"""
import glob
import re
import shutil
import subprocess

import gpu
from gpu import e2e

FOUND = 9  # exit status: it found something
RUN = ("--batch", "4", "--max-steps", "3", "--backend", "cuda")
CLEAN = {"memcheck": "ERROR SUMMARY: 0 errors", "initcheck": "ERROR SUMMARY: 0 errors", "racecheck": "RACECHECK SUMMARY: 0 hazards"}


def find_sanitizer():
    places = [shutil.which("compute-sanitizer"), *sorted(glob.glob("/usr/local/cuda*/bin/compute-sanitizer"))]
    return next((p for p in places if p), None)


class Sanitizer(gpu.Case):
    def setUp(self):
        super().setUp()
        self.tool = find_sanitizer()
        if self.tool is None:
            self.skipTest("no compute-sanitizer: it comes with the CUDA toolkit")

    def generated_kernels(self, method=gpu.LSQ):
        """Names of the functions that the programs of this network bring."""
        names = set()
        for step in ("train", "init", "eval", "observe", "inspect"):
            self.detent("compile", e2e.SMALL, *method, "--batch", "4", "--backend", "cuda", "--step", step, "--dump-kernels", "k-" + step)
            for path in glob.glob(self.path("k-" + step, "*.cu")):
                with open(path) as file:
                    names.update(re.findall(r"__global__ void __launch_bounds__\([^)]*\) (\w+)\(", file.read()))
        return sorted(names)

    def sanitize(self, tool, *args, only=(), method=gpu.LSQ):
        data = e2e.write_digits(self.path("few"), train=16, test=8)
        filters = ["--kernel-name", ",".join("kne=" + name for name in only)] if only else []
        command = [self.tool, "--tool", tool, "--error-exitcode", str(FOUND), *filters, e2e.DETENT, "train", e2e.SMALL,
                   "--data", data, "--out", "run", *method, *RUN, *args]
        done = subprocess.run(command, cwd=self.dir, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if "Device not supported" in done.stdout:
            self.skipTest("compute-sanitizer refuses this device: " + done.stdout[-300:])
        self.assertEqual(done.returncode, 0, done.stdout[-4000:])
        self.assertIn(CLEAN[tool], done.stdout)

    def test_memcheck(self):
        self.sanitize("memcheck", "--no-graph")

    def test_memcheck_graph(self):
        self.sanitize("memcheck")

    def test_memcheck_noise(self):
        self.sanitize("memcheck", method=gpu.NOISE)

    def test_memcheck_qsin(self):
        self.sanitize("memcheck", method=gpu.METHODS["qsin"])

    def test_racecheck_qat(self):
        self.sanitize("racecheck", "--no-graph", only=self.generated_kernels(gpu.METHODS["qat"]), method=gpu.METHODS["qat"])

    def test_racecheck(self):
        names = self.generated_kernels()
        self.assertGreater(len(names), 5)
        self.sanitize("racecheck", "--no-graph", only=names)

    def test_initcheck(self):
        self.sanitize("initcheck", "--no-graph", only=self.generated_kernels())


if __name__ == "__main__":
    gpu.main()
