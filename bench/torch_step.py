#!/usr/bin/env python3
"""torch_step.py: training steps of PyTorch, served like `detent bench --serve`: a "ready ..." line, then a round of
--steps steps for each line on stdin, answered with the seconds of one. A step is everything: gradients to zero, forward
with batch statistics, the loss (cross entropy; CBDNet has its own), backward, SGD with momentum and weight decay. On a GPU the steps of a round are put
into its stream one behind the other, and the clock stops when it is done with the last.

With --mode eval a step is an evaluation: one forward pass in eval mode, without gradients; what is compiled has its weights frozen, so
that batch norms are folded and weights packed.

bench/step and bench/evaluation run it; by hand: echo | bench/torch_step.py --net resnet20 --method lsq --batch 8
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
    p.add_argument("--net", default="resnet20", help="one of torch_nets.NETS")
    p.add_argument("--method", default="float", choices=["float", "lsq"])
    p.add_argument("--bits", default="w4a4", help="of the layers between the first and the last, for lsq")
    p.add_argument("--batch", type=int, default=128)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--layout", default="nhwc", choices=["nhwc", "nchw"], help="nhwc is channels_last")
    p.add_argument("--compile", metavar="MODE", help="network and loss through torch.compile: default, reduce-overhead, max-autotune")
    p.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    p.add_argument("--math", default="f32", choices=["f32", "tf32"], help="cuda: single precision, or TF32 where it is offered")
    p.add_argument("--steps", type=int, default=1, help="steps of a round")
    p.add_argument("--mode", default="train", choices=["train", "eval"])
    return p.parse_args()


ARGS = parse_args()
os.environ["OMP_NUM_THREADS"] = str(ARGS.threads)  # before torch is loaded: OpenMP reads it once

from torch_nets import NETS, F, Recipe, cbdnet_loss, for_evaluation, sgd, torch  # noqa: E402  (says what to do when PyTorch is missing)


def set_math(math):
    """Convolutions and matrix products alike; PyTorch's own default is TF32 for convolutions alone."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = math == "tf32"
    torch.backends.cudnn.benchmark = True  # its fastest convolutions


class Step:
    def __init__(self, args):
        torch.manual_seed(1)
        torch.set_num_threads(args.threads)
        set_math(args.math)
        self.cuda, self.steps = args.device == "cuda", args.steps
        layout = torch.channels_last if args.layout == "nhwc" else torch.contiguous_format
        self.net = NETS[args.net](Recipe(args.method, args.bits)).to(args.device, memory_format=layout).train()
        self.images = torch.randn(args.batch, *self.net.image).to(args.device).contiguous(memory_format=layout)
        if self.net.classes:
            self.labels = torch.randint(self.net.classes, (args.batch,)).to(args.device)
        else:
            self.labels, self.noise = torch.rand_like(self.images), 0.1 * torch.rand_like(self.images)
        self.net(self.images)  # first values of step sizes
        self.optimizer = sgd(self.net, 0.01, 0.9, 1e-4)
        self.forward = torch.compile(self.loss, mode=args.compile) if args.compile else self.loss

    def loss(self):
        y = self.net(self.images)
        return F.cross_entropy(y, self.labels) if self.net.classes else cbdnet_loss(y, self.labels, self.net.sigma, self.noise)

    def wait(self):
        if self.cuda:
            torch.cuda.synchronize()

    def __call__(self):
        self.wait()
        start = time.perf_counter()
        for _ in range(self.steps):
            torch.compiler.cudagraph_mark_step_begin()
            self.optimizer.zero_grad(set_to_none=True)
            loss = self.forward()
            loss.backward()
            self.optimizer.step()
        self.wait()
        return (time.perf_counter() - start) / self.steps

    def memory_bytes(self):
        """The most that tensors take at once; the allocator's own reserves are not counted."""
        return torch.cuda.max_memory_allocated() if self.cuda else 0

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


class Evaluation:
    """A forward pass."""

    cuda = False

    def __init__(self, args):
        torch.manual_seed(1)
        torch.set_num_threads(args.threads)
        self.steps = args.steps
        layout = torch.channels_last if args.layout == "nhwc" else torch.contiguous_format
        net = NETS[args.net](Recipe(args.method, args.bits)).to(memory_format=layout)
        self.images = torch.randn(args.batch, *net.image).contiguous(memory_format=layout)
        for_evaluation(net, self.images)
        if args.compile:
            import torch._inductor.config as inductor
            inductor.freezing = True
        self.forward = torch.compile(net, mode=args.compile) if args.compile else net

    def __call__(self):
        with torch.no_grad():
            start = time.perf_counter()
            for _ in range(self.steps):
                self.forward(self.images)
            return (time.perf_counter() - start) / self.steps

    def memory_bytes(self):
        return 0

    def saved_bytes(self):
        return 0


def describe():
    if ARGS.device == "cuda":
        return (f"torch {torch.__version__}, {torch.cuda.get_device_name()}, CUDA {torch.version.cuda}, cuDNN "
                f"{torch.backends.cudnn.version()}, {ARGS.math}, python {sys.version.split()[0]}")
    onednn = re.search(r"(?:MKL-DNN|oneDNN) v([\d.]+)", torch.__config__.show())
    return (f"torch {torch.__version__}, oneDNN {onednn[1] if onednn else '?'}, {torch.backends.cpu.get_cpu_capability()}, "
            f"{torch.get_num_threads()} threads, python {sys.version.split()[0]}")


def main():
    if ARGS.device == "cuda" and not torch.cuda.is_available():
        sys.exit(f"torch_step: torch {torch.__version__} finds no GPU")
    if ARGS.device == "cuda" and ARGS.mode == "eval":
        sys.exit("torch_step: --mode eval: expected --device cpu, found cuda")
    step = Step(ARGS) if ARGS.mode == "train" else Evaluation(ARGS)
    start = time.perf_counter()
    step()  # the first one compiles
    compile_seconds = time.perf_counter() - start if ARGS.compile else 0.0
    if step.cuda:
        torch.cuda.reset_peak_memory_stats()
    for _ in range(WARMUP):
        step()
    memory = step.memory_bytes()
    saved = 0 if ARGS.compile and step.cuda else step.saved_bytes()  # hooks would compile it anew, without its graph
    for _ in range(WARMUP):
        step()
    gc.collect()
    gc.disable()
    print(f"ready compile_seconds={compile_seconds:.4f} saved_bytes={saved} memory_bytes={memory} launches=0 {describe()}", flush=True)
    for _ in sys.stdin:
        print(f"{step():.7f}", flush=True)


main()
