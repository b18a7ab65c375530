#!/usr/bin/env python3
"""torch_step.py: one training step of PyTorch, served like `detent bench --serve`: a "ready ..." line, then one step for
each line on stdin, answered with its seconds. A step is everything: gradients to zero, forward with batch statistics,
cross entropy, backward, SGD with momentum and weight decay.

bench/step runs it; by hand: echo | bench/torch_step.py --net resnet20 --method lsq --batch 8
"""
import argparse
import gc
import os
import re
import sys
import time

sys.dont_write_bytecode = True
WARMUP = 3


def parse_args():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--net", default="resnet20", choices=["resnet20", "mnist"])
    p.add_argument("--method", default="float", choices=["float", "lsq"])
    p.add_argument("--bits", default="w4a4", help="of the layers between the first and the last, for lsq")
    p.add_argument("--batch", type=int, default=128)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--layout", default="nhwc", choices=["nhwc", "nchw"], help="nhwc is channels_last")
    p.add_argument("--compile", action="store_true", help="network and loss through torch.compile")
    return p.parse_args()


ARGS = parse_args()
# Before torch is loaded: OpenMP reads these once. Threads that wait must sleep, the other processes want the cores.
os.environ["OMP_NUM_THREADS"] = str(ARGS.threads)
for name, value in (("OMP_WAIT_POLICY", "passive"), ("GOMP_SPINCOUNT", "0"), ("KMP_BLOCKTIME", "0")):
    os.environ.setdefault(name, value)

from torch_nets import NETS, F, Recipe, sgd, torch  # noqa: E402  (says what to do when PyTorch is missing)


class Step:
    def __init__(self, args):
        torch.manual_seed(1)
        torch.set_num_threads(args.threads)
        layout = torch.channels_last if args.layout == "nhwc" else torch.contiguous_format
        self.net = NETS[args.net](Recipe(args.method, args.bits)).to(memory_format=layout).train()
        self.images = torch.randn(args.batch, *self.net.image).contiguous(memory_format=layout)
        self.labels = torch.randint(self.net.classes, (args.batch,))
        self.net(self.images)  # first values of step sizes
        self.optimizer = sgd(self.net, 0.01, 0.9, 1e-4)
        self.forward = torch.compile(self.loss) if args.compile else self.loss

    def loss(self):
        return F.cross_entropy(self.net(self.images), self.labels)

    def __call__(self):
        start = time.perf_counter()
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.forward()
        loss.backward()
        self.optimizer.step()
        return time.perf_counter() - start

    def saved_bytes(self):
        """What autograd keeps for backward, each storage once; params, buffers and the batch are not counted. Eager
        keeps it in graph nodes, seen by hooks; a compiled function, too, in its one node."""
        own = {t.untyped_storage().data_ptr() for t in (*self.net.parameters(), *self.net.buffers(), self.images, self.labels)}
        kept = {}

        def pack(t):
            storage = t.untyped_storage()
            if storage.data_ptr() not in own:
                kept[storage.data_ptr()] = storage.nbytes()
            return t

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            loss = self.forward()
        loss.backward()
        return sum(kept.values())


def describe():
    onednn = re.search(r"(?:MKL-DNN|oneDNN) v([\d.]+)", torch.__config__.show())
    return (f"torch {torch.__version__}, oneDNN {onednn[1] if onednn else '?'}, {torch.backends.cpu.get_cpu_capability()}, "
            f"{torch.get_num_threads()} threads, python {sys.version.split()[0]}")


def main():
    step = Step(ARGS)
    compile_seconds = step() if ARGS.compile else 0.0
    for _ in range(WARMUP):
        step()
    saved = step.saved_bytes()
    for _ in range(WARMUP):
        step()
    gc.collect()
    gc.disable()
    print(f"ready compile_seconds={compile_seconds:.4f} saved_bytes={saved} {describe()}", flush=True)
    for _ in sys.stdin:
        print(f"{step():.6f}", flush=True)


main()
