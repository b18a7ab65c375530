"""What the tests on GPUs share, on top of tests/e2e/e2e.py: which backend they are for, and whether it can be had.

CMake runs each test_NAME.py as gpu_NAME on a real GPU (label gpu) and as sim_NAME on the simulated one, with less to do;
DETENT_BACKEND says which. By hand:

    DETENT=build/cuda-only/detent DETENT_SOURCE=. DETENT_BACKEND=cuda python3 tests/gpu/test_resume.py [-v] [Class.test]

Where no GPU is, the tests of label gpu are skipped and say why.
"""
import ctypes
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))

import e2e  # noqa: E402
from test_networks import write_cifar10  # noqa: E402

BACKEND = os.environ.get("DETENT_BACKEND", "cuda")
REAL = BACKEND == "cuda"
LSQ = ("--method", "lsq", "--bits", "w4a4")
NOISE = ("--method", "quant-noise", "--bits", "w4a4")
# Every method, and the settings that make other kernels of it.
METHODS = {
    "lsq": LSQ,
    "ptq": ("--method", "ptq", "--bits", "w4a4", "--set", "form=affine"),
    "qat": ("--method", "qat", "--bits", "w4a4"),
    "lsq_plus": ("--method", "lsq+", "--bits", "w4a4"),
    "quant_noise": NOISE,
    "qsin": ("--method", "qsin", "--bits", "w4a4"),
    "msqe": ("--method", "msqe", "--bits", "w4a4"),
    "sinreq": ("--method", "sinreq", "--bits", "w4a4"),
    "channel": (*LSQ, "--set", "grain=channel", "--set", "noise=0.5"),
    "offset": ("--method", "lsq+", "--bits", "w4a4", "--set", "offset=float"),
    "symmetric": ("--method", "qat", "--bits", "w4a4", "--set", "form=symmetric", "--set", "grain=channel"),
}
# A run that is long enough to go wrong.
FEW = ("--log-every", "1", *(("--max-steps", "30", "--batch", "64") if REAL else ("--max-steps", "2", "--batch", "4")))
PACK = os.path.abspath(os.environ.get("DETENT_PACK", os.path.join(e2e.SOURCE, "gpu-pack")))


def driver_path():
    """DETENT_CUDA_DRIVER names the library or its directory, as it does for `detent`."""
    chosen = os.environ.get("DETENT_CUDA_DRIVER", "")
    return os.path.join(chosen, "libcuda.so.1") if os.path.isdir(chosen) else chosen or "libcuda.so.1"


def why_no_gpu():
    """None: there is one."""
    try:
        driver = ctypes.CDLL(driver_path())
    except OSError as e:
        return "no NVIDIA driver: %s" % e
    count = ctypes.c_int(0)
    for name, args in (("cuInit", (0,)), ("cuDeviceGetCount", (ctypes.byref(count),))):
        status = getattr(driver, name)(*args)
        if status != 0:
            return "the NVIDIA driver finds no GPU: %s gives error %d" % (name, status)
    return None if count.value > 0 else "the NVIDIA driver finds no GPU"


WHY_NOT = why_no_gpu() if REAL else None


class Case(e2e.Case):
    """Skipped, with the reason, where the backend is a real GPU and there is none."""

    def setUp(self):
        if WHY_NOT:
            self.skipTest(WHY_NOT)
        super().setUp()

    def cifar10(self):
        """The directory of a small CIFAR-10: of the pack where it has one, else pictures made up for this test."""
        packed, made = os.path.join(PACK, "data", "cifar10"), self.path("cifar-10-batches-bin")
        if os.path.isdir(packed):
            return packed
        if not os.path.isdir(made):
            write_cifar10(made, records=100)
        return made

    def digits(self):
        """Enough for the backend: MNIST's own, or on the simulated GPU a handful made up for this test."""
        if REAL:
            return e2e.DIGITS
        path = self.path("digits")
        return path if os.path.isdir(path) else e2e.write_digits(path, train=24, test=8)

    def on_backend(self, net, out, *args, **kwargs):
        return self.train(net, out, "--backend", BACKEND, *args, **kwargs)


main = e2e.main
