#!/usr/bin/env python3
"""make_optimizers.py: writes optimizers.json: what PyTorch's optimizers make of a weight and a bias in twelve steps of
given gradients, and what its schedulers make of a learning rate. tests/unit/test_optimizers.c compares.

    tests/reference/make_optimizers.py [FILE]

All is computed in double precision. The weight is in a group with weight decay, the bias in one without. rmsprop-tf is
no class of PyTorch: it is the rule of TensorFlow's RMSPropOptimizer (and of timm's RMSpropTF, which follows it), with
PyTorch's operations. Clipping is torch.nn.utils', before the step; with `accumulate` each step's gradients are the mean
of as many rows. `ema` are averages beside the run, min(D, (1 + t) / (10 + t)) with "warm".
"""
import json
import os
import sys

import torch

HERE = os.path.dirname(os.path.abspath(__file__))
STEPS, WEIGHT, BIAS = 12, 8, 3
torch.manual_seed(11)


def f32(t):
    return t.to(torch.float32).to(torch.float64)


class RMSpropTF(torch.optim.Optimizer):
    def __init__(self, groups, lr, alpha, eps, momentum, weight_decay=0):
        super().__init__(groups, dict(lr=lr, alpha=alpha, eps=eps, momentum=momentum, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for g in self.param_groups:
            for p in g["params"]:
                s = self.state[p]
                if not s:
                    s["square"], s["velocity"] = torch.ones_like(p), torch.zeros_like(p)
                grad = p.grad + g["weight_decay"] * p
                s["square"].add_((1 - g["alpha"]) * (grad * grad - s["square"]))
                s["velocity"].mul_(g["momentum"]).add_(g["lr"] * grad / torch.sqrt(s["square"] + g["eps"]))
                p.sub_(s["velocity"])


def adam(c, groups):
    kind = torch.optim.AdamW if c["optimizer"] == "adamw" else torch.optim.Adam
    return kind(groups, lr=1, betas=(c["beta1"], c["beta2"]), eps=c["eps"], foreach=False)


MAKE = {
    "sgd": lambda c, g: torch.optim.SGD(g, lr=1, momentum=c["momentum"], nesterov=c.get("nesterov", False), foreach=False),
    "adam": adam,
    "adamw": adam,
    "rmsprop": lambda c, g: torch.optim.RMSprop(g, lr=1, alpha=c["rho"], eps=c["eps"], momentum=c["momentum"], foreach=False),
    "rmsprop-tf": lambda c, g: RMSpropTF(g, 1, c["rho"], c["eps"], c["momentum"]),
    "adadelta": lambda c, g: torch.optim.Adadelta(g, lr=1, rho=c["rho"], eps=c["eps"], foreach=False),
}

ADAM = dict(beta1=0.9, beta2=0.999, eps=1e-8)
CASES = [
    dict(name="sgd", optimizer="sgd", lr=0.1, momentum=0.9, decay=5e-4),
    dict(name="sgd nesterov", optimizer="sgd", lr=0.1, momentum=0.9, nesterov=True, decay=5e-4),
    dict(name="sgd without momentum", optimizer="sgd", lr=0.1, momentum=0, decay=0),
    dict(name="adam", optimizer="adam", lr=0.01, decay=0, **ADAM),
    dict(name="adam decay", optimizer="adam", lr=0.01, decay=0.05, **ADAM),
    dict(name="adam other betas", optimizer="adam", lr=0.01, decay=0, beta1=0.5, beta2=0.9, eps=1e-3),
    dict(name="adamw", optimizer="adamw", lr=0.01, decay=0.1, **ADAM),
    dict(name="rmsprop", optimizer="rmsprop", lr=0.01, decay=0, momentum=0, rho=0.99, eps=1e-8),
    dict(name="rmsprop momentum", optimizer="rmsprop", lr=0.01, decay=1e-2, momentum=0.9, rho=0.9, eps=1e-8),
    dict(name="rmsprop-tf", optimizer="rmsprop-tf", lr=0.016, decay=1e-2, momentum=0.9, rho=0.9, eps=1e-3),
    dict(name="rmsprop-tf without momentum", optimizer="rmsprop-tf", lr=0.016, decay=0, momentum=0, rho=0.9, eps=1e-3),
    dict(name="adadelta", optimizer="adadelta", lr=1, decay=0, rho=0.9, eps=1e-6),
    dict(name="adadelta decay", optimizer="adadelta", lr=0.5, decay=0.05, rho=0.8, eps=1e-4),
    dict(name="clip norm", optimizer="sgd", lr=0.1, momentum=0.9, decay=5e-4, clip_norm=1.0),
    dict(name="clip norm, seldom", optimizer="adamw", lr=0.01, decay=0.1, clip_norm=3.5, **ADAM),
    dict(name="clip value", optimizer="sgd", lr=0.1, momentum=0.9, decay=0, clip_value=0.25),
    dict(name="clip both", optimizer="sgd", lr=0.1, momentum=0, decay=0, clip_value=0.5, clip_norm=1.0),
    dict(name="accumulate", optimizer="sgd", lr=0.1, momentum=0.9, decay=5e-4, accumulate=4),
    dict(name="accumulate adam clip", optimizer="adam", lr=0.01, decay=0, accumulate=3, clip_norm=0.5, **ADAM),
    dict(name="ema", optimizer="sgd", lr=0.1, momentum=0.9, decay=0, ema=0.9),
    dict(name="ema warm", optimizer="adam", lr=0.01, decay=0, ema=0.99, warm=True, **ADAM),
]


def run(case, first, grads, rates):
    w, b = (torch.nn.Parameter(x.clone()) for x in first)
    groups = [dict(params=[w], weight_decay=case["decay"]), dict(params=[b], weight_decay=0)]
    opt = MAKE[case["optimizer"]](case, groups)
    averages = [w.detach().clone(), b.detach().clone()]
    k, updates, out = case.get("accumulate", 1), 0, dict(case, weight=[], bias=[], ema_weight=[], ema_bias=[])
    for i in range(STEPS):
        if (i + 1) % k == 0:
            w.grad, b.grad = (torch.stack(g[i + 1 - k : i + 1]).mean(0) for g in grads)
            if "clip_value" in case:
                torch.nn.utils.clip_grad_value_([w, b], case["clip_value"])
            if "clip_norm" in case:
                torch.nn.utils.clip_grad_norm_([w, b], case["clip_norm"])
            for g in opt.param_groups:
                g["lr"] = case["lr"] * rates[i]
            opt.step()
            if "ema" in case:
                decay = min(case["ema"], (1 + updates) / (10 + updates)) if case.get("warm") else case["ema"]
                averages = [decay * a + (1 - decay) * p.detach() for a, p in zip(averages, (w, b))]
            updates += 1
        out["weight"].append(w.tolist())
        out["bias"].append(b.tolist())
        if "ema" in case:
            out["ema_weight"].append(averages[0].tolist())
            out["ema_bias"].append(averages[1].tolist())
    return out


def schedule(text, lr, epochs, per_epoch):
    total = epochs * per_epoch
    opt = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    kind, *numbers = text.split(":")
    if kind == "exp":
        s = torch.optim.lr_scheduler.StepLR(opt, round(float(numbers[1]) * per_epoch), float(numbers[0]))
    elif kind == "one-cycle":
        s = torch.optim.lr_scheduler.OneCycleLR(opt, lr, total_steps=total, pct_start=float(numbers[0]) if numbers else 0.3)
    elif kind == "poly":
        s = torch.optim.lr_scheduler.PolynomialLR(opt, total, float(numbers[0]) if numbers else 1.0)
    else:
        s = torch.optim.lr_scheduler.CosineAnnealingLR(opt, total)
    values = []
    for _ in range(total):
        values.append(opt.param_groups[0]["lr"])
        opt.step()
        s.step()
    return dict(text=text, lr=lr, epochs=epochs, steps_per_epoch=per_epoch, values=values)


def main():
    first = f32(torch.randn(WEIGHT)), f32(torch.randn(BIAS))
    grads = [[f32(torch.randn(n) * (1 + i % 3)) for i in range(STEPS)] for n in (WEIGHT, BIAS)]
    rates = [1 - 0.05 * i for i in range(STEPS)]
    out = {
        "made_by": f"tests/reference/make_optimizers.py, PyTorch {torch.__version__}",
        "rates": rates,
        "weight": first[0].tolist(),
        "bias": first[1].tolist(),
        "weight_grads": [g.tolist() for g in grads[0]],
        "bias_grads": [g.tolist() for g in grads[1]],
        "cases": [run(c, first, grads, rates) for c in CASES],
        "schedules": [schedule(t, 0.4, 5, 10) for t in ("cosine", "exp:0.97:0.7", "exp:0.5:2", "one-cycle", "one-cycle:0.1", "poly", "poly:0.9")],
    }
    path = sys.argv[1] if len(sys.argv) > 1 else os.path.join(HERE, "optimizers.json")
    lines = [f" {json.dumps(k)}: " + ("[\n  " + ",\n  ".join(map(json.dumps, v)) + "]" if isinstance(v, list) else json.dumps(v))
             for k, v in out.items()]
    with open(path, "w") as f:
        f.write("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    main()
