#!/usr/bin/env python3
"""ort_eval.py: evaluations by onnxruntime, served like `detent bench --serve`: a "ready ..." line, then a round of --steps
evaluations for each line on stdin, answered with the seconds of one.

The network is that of torch_nets.py, exported to ONNX. --method int8 quantizes it as onnxruntime's own documentation says:
quant_pre_process, then quantize_static with QDQ nodes, weights by channel, ranges of activations from calibration. Everything
else is onnxruntime's default. Its threads may spin within an evaluation and stop behind it, so that other processes
of bench/evaluation, which runs this, have the cores to themselves when it is their turn.

Needs PyTorch, onnx and onnxruntime (pip install torch onnx onnxruntime). By hand: echo | bench/ort_eval.py --net resnet20 --batch 8
"""
import argparse
import contextlib
import os
import sys
import tempfile
import time

sys.dont_write_bytecode = True
WARMUP, CALIBRATION_BATCHES = 3, 4


def parse_args():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--net", default="resnet20", help="one of torch_nets.NETS")
    p.add_argument("--method", default="float", choices=["float", "int8"])
    p.add_argument("--batch", type=int, default=128)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--steps", type=int, default=1, help="evaluations of a round")
    return p.parse_args()


def export(args, net, images, path):
    """The network as an ONNX file; what the exporter prints is not for our reader."""
    from torch_nets import torch
    with contextlib.redirect_stdout(sys.stderr), torch.no_grad():
        torch.onnx.export(net, (images,), path, input_names=["image"], output_names=["logits"], dynamo=False)


def quantize(source, target, batches):
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.rest = list(batches)

        def get_next(self):
            return {"image": self.rest.pop()} if self.rest else None

    prepared = source + ".prepared"
    quant_pre_process(source, prepared)
    quantize_static(prepared, target, Reader(), quant_format=QuantFormat.QDQ, per_channel=True)


def main():
    args = parse_args()
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    from torch_nets import NETS, Recipe, for_evaluation, torch
    try:
        import onnx
        import onnxruntime
    except ImportError as e:
        sys.exit(f"ort_eval: onnx and onnxruntime are needed ({e}): pip install onnx onnxruntime")
    torch.manual_seed(1)
    torch.set_num_threads(args.threads)
    net = NETS[args.net](Recipe("float"))
    batches = [torch.randn(args.batch, *net.image) for _ in range(CALIBRATION_BATCHES)]
    for_evaluation(net, batches[0])
    with tempfile.TemporaryDirectory(prefix="detent-ort-") as scratch:
        path = os.path.join(scratch, "net.onnx")
        start = time.perf_counter()
        export(args, net, batches[0], path)
        if args.method == "int8":
            with contextlib.redirect_stdout(sys.stderr):
                quantize(path, path + ".int8", [b.numpy() for b in batches])
            path += ".int8"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = args.threads
        options.add_session_config_entry("session.force_spinning_stop", "1")
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        seconds = time.perf_counter() - start
    images = {"image": batches[0].numpy()}
    for _ in range(WARMUP):
        session.run(None, images)
    print(f"ready compile_seconds={seconds:.4f} saved_bytes=0 memory_bytes=0 launches=0 onnxruntime {onnxruntime.__version__}, "
          f"onnx {onnx.__version__}, {args.threads} threads, python {sys.version.split()[0]}", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        for _ in range(args.steps):
            session.run(None, images)
        print(f"{(time.perf_counter() - start) / args.steps:.7f}", flush=True)


main()
