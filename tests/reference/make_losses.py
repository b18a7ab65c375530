#!/usr/bin/env python3
"""make_losses.py: writes losses.json: the first losses of ResNet-20 in float, trained by PyTorch from Detent's own first
weights on generated batches. tests/unit/test_parity.c trains the same by Detent and compares.

    tests/reference/make_losses.py [FILE]

Weights: tensor_init() with SEED (philox.py). Batch k: pixels normal(SEED, 1, k), labels u32(SEED, 2, k) mod 10. The run is
done in float32 and in float64: the second shows how far rounding alone carries the first.
"""
import json
import os
import sys

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "bench"))

import numpy as np  # noqa: E402
import philox  # noqa: E402
from torch_nets import F, Recipe, Resnet20, detent_name, sgd, torch  # noqa: E402

SEED, BATCH, STEPS = 1, 8, 10
LR, MOMENTUM, DECAY = 5e-4, 0.9, 0.2  # small steps, or rounding grows a hundredfold; a decay that shows within ten


def network(dtype):
    net = Resnet20(Recipe("float"))
    with torch.no_grad():
        for name, p in net.named_parameters():
            name = detent_name(name)
            kind = "kaiming" if p.ndim > 1 else "ones" if name.endswith("gamma") else "zeros"
            fan = p[0].numel() if p.ndim > 1 else 0
            p.copy_(torch.from_numpy(philox.first_values(SEED, name, tuple(p.shape), kind, fan)))
    return net.to(dtype).train()


def batch(k, dtype):
    pixels = philox.normal(SEED, 1, k, BATCH * int(np.prod(Resnet20.image))).reshape(BATCH, *Resnet20.image)
    labels = philox.u32(SEED, 2, k, BATCH) % Resnet20.classes
    return torch.from_numpy(pixels).to(dtype), torch.from_numpy(labels.astype(np.int64))


def train(dtype):
    net = network(dtype)
    optimizer = sgd(net, LR, MOMENTUM, DECAY)
    losses, correct = [], []
    for k in range(STEPS):
        images, labels = batch(k, dtype)
        optimizer.zero_grad()
        logits = net(images)
        loss = F.cross_entropy(logits, labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        correct.append(int((logits.argmax(1) == labels).sum()))
    return losses, correct, {detent_name(n): t for n, t in net.state_dict().items()}


def main():
    torch.set_num_threads(1)
    start = {detent_name(n): p for n, p in network(torch.float32).named_parameters()}
    losses, correct, _ = train(torch.float32)
    exact, _, state = train(torch.float64)
    sampled = ["stem.conv1.weight", "s1.b0.conv1.weight", "head.weight"]
    shown = ["stem.bn1.running_mean", "stem.bn1.running_var", "s2.b2.bn2.running_var", "s1.b0.bn1.gamma", "head.bias"]
    out = {
        "made_by": f"make_losses.py with torch {torch.__version__}",
        "net": "resnet20", "seed": SEED, "batch": BATCH, "lr": LR, "momentum": MOMENTUM, "weight_decay": DECAY,
        "first_weights": {n: [float(x) for x in start[n].detach().flatten()[:3]] for n in sampled},
        "losses": [round(x, 7) for x in losses], "losses_f64": [round(x, 9) for x in exact], "correct": correct,
        "after": {n: [round(float(x), 8) for x in state[n].flatten()[:4]] for n in shown},
    }
    path = sys.argv[1] if len(sys.argv) > 1 else os.path.join(HERE, "losses.json")
    with open(path, "w") as f:
        json.dump(out, f, indent=1)
        f.write("\n")
    print(f"{path}: float32 is off float64 by at most {max(abs(a - b) for a, b in zip(losses, exact)):.1e}")


main()
