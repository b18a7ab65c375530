#!/usr/bin/env python3
"""The runs whose losses are compared between backends, and what they are on a CPU.

    DETENT=... DETENT_SOURCE=... tests/gpu/losses.py DIR      writes DIR/NAME.json for each run

tools/pack-gpu calls it on a machine with all backends; test_losses.py compares a GPU with what it finds there, or with
what it can compute itself.
"""
import json
import os
import sys
import tempfile

import gpu
from gpu import e2e


class Run:
    """One training run of `steps` steps, its loss taken at every step."""

    def __init__(self, net, recipe, batch, steps, lr, reference, options=()):
        self.net, self.steps, self.reference = net, steps, reference
        self.args = (*recipe, "--batch", str(batch), "--max-steps", str(steps), "--lr", str(lr), "--schedule", "constant",
                     "--no-augment", "--log-every", "1", "--seed", "3",
                     "--inspect-every", "0",  # its sums over weights follow their layout in memory
                     *options)

    def losses(self, case, out, backend, *more):
        """Trains on `backend` in directory `out`."""
        data = case.cifar10() if self.net == "resnet20" else e2e.DIGITS  # the same pictures everywhere
        if self.net == e2e.SMALL:  # for the simulated GPU
            data = case.path("few-digits")
            if not os.path.isdir(data):
                e2e.write_digits(data, train=160, test=8)
        case.train(self.net, out, *self.args, "--backend", backend, *more, data=data)
        return [row["train_loss"] for row in case.jsonl(out) if "train_loss" in row][:self.steps]


FLOAT = ("--method", "float")

# reference: the backend that says what is right. The interpreter takes seconds a step: few steps of few images.
RUNS = {
    "mnist-float": Run("mnist", FLOAT, 32, 50, 0.01, "cpu"),
    "mnist-lsq": Run("mnist", gpu.LSQ, 32, 50, 0.01, "cpu"),
    "resnet20-float": Run("resnet20", FLOAT, 32, 50, 0.002, "cpu"),
    "resnet20-lsq": Run("resnet20", gpu.LSQ, 32, 50, 0.002, "cpu"),
    "mnist-qat": Run("mnist", gpu.METHODS["qat"], 32, 50, 0.01, "cpu"),
    "mnist-lsq-plus": Run("mnist", gpu.METHODS["lsq_plus"], 32, 50, 0.01, "cpu"),
    "mnist-quant-noise": Run("mnist", gpu.NOISE, 32, 50, 0.01, "cpu"),
    "mnist-qsin": Run("mnist", gpu.METHODS["qsin"], 32, 50, 0.01, "cpu"),
    "mnist-int8": Run("mnist", gpu.LSQ, 8, 10, 0.01, "interp", ("--forward", "int")),
}
# What the simulated GPU does in seconds, held against the interpreter here and now.
SMALL_RUNS = {
    "small-float": Run(e2e.SMALL, FLOAT, 8, 20, 0.02, "interp"),
    "small-lsq": Run(e2e.SMALL, gpu.LSQ, 8, 20, 0.02, "interp"),
    # edges of 4 bits, too: unsigned codes of 8 bits are multiplied as floats on a GPU, and as codes by the interpreter
    "small-int8": Run(e2e.SMALL, gpu.LSQ, 8, 20, 0.02, "interp", ("--forward", "int", "--edge-bits", "4")),
    "small-quant-noise": Run(e2e.SMALL, gpu.NOISE, 8, 20, 0.02, "interp"),
    **{"small-" + name: Run(e2e.SMALL, gpu.METHODS[name], 8, 3, 0.02, "interp")
       for name in ("qat", "lsq_plus", "qsin", "channel", "symmetric")},
    "mnist-lsq": Run("mnist", gpu.LSQ, 4, 1, 0.01, "interp"),
}


def packed(folder, name):
    """The losses that were written for this run, or None: no file, or other arguments."""
    try:
        with open(os.path.join(folder, name + ".json")) as file:
            found = json.load(file)
    except OSError:
        return None
    return found["losses"] if found["args"] == list(RUNS[name].args) else None


class Writer(e2e.Case):
    """A case outside of unittest: a directory to run in, and the commands."""

    cifar10 = gpu.Case.cifar10

    def __init__(self, path):
        super().__init__("path")
        self.dir = path


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    os.makedirs(sys.argv[1], exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="detent-losses-") as path:
        writer = Writer(path)
        for name, run in RUNS.items():
            losses = run.losses(writer, name, run.reference)
            with open(os.path.join(sys.argv[1], name + ".json"), "w") as file:
                json.dump({"net": run.net, "args": run.args, "backend": run.reference, "losses": losses}, file, indent=1)
                file.write("\n")
            print("%s: %.6f ... %.6f" % (name, losses[0], losses[-1]), flush=True)


if __name__ == "__main__":
    main()
