"""torch_nets.py: Detent's networks and its LSQ quantizer, written the way PyTorch users write them.

The modules have Detent's names (s1.b0.conv1), so weights can be carried over by name. LSQ is the usual `detach` form of
the straight-through estimator; where it differs from Detent's own:

- the gradient passes at the very ends of the clip range (torch.clamp includes them), Detent's stops there;
- x / step instead of x (1 / step): the last bit of a quotient may differ, a code only on a tie;
- nothing keeps step sizes from falling below 1e-8 in training.

What is equal: full signed range for weights, unsigned range for inputs that cannot be negative, 8 bits in the first and
the last layer, gradient scale 1 / sqrt(N hi) with N of one sample, first step sizes from the first batch, weight decay
on weights alone.

Large networks are made in float first and quantized afterwards; their modules keep their own names. Used by torch_step.py and tests/reference/make_*.py. Needs PyTorch, which Detent itself does not.
"""
import math
import re
import sys

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError as e:
    sys.exit(f"{sys.argv[0]}: PyTorch is needed to compare with it, and python3 does not find it ({e}).\n"
             "Install it (pip install torch) or name a python that has it; Detent itself works without.")

EDGE_BITS = 8  # first and last layer


def lsq(x, step, lo, hi, scale):
    """step * rint(clip(x / step)), gradients of Esser et al. 2020; that of step times `scale`."""
    step = step * scale + (step - step * scale).detach()
    t = torch.clamp(x / step, lo, hi)
    return (t + (t.round() - t).detach()) * step


class Quantizer(nn.Module):
    """One trained step size. `first`: the value is set from the next tensor that comes by."""

    def __init__(self, bits, signed, is_weight):
        super().__init__()
        self.bits, self.is_weight, self.first = bits, is_weight, True
        self.lo, self.hi = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
        self.step = nn.Parameter(torch.ones(()))

    @torch.no_grad()
    def start(self, x):
        step = 2 * x.abs().mean() / math.sqrt(self.hi) if self.bits < 6 else x.abs().max() / self.hi
        self.step.copy_(step.clamp_min(1e-8))
        self.first = False

    def forward(self, x):
        if self.first:
            self.start(x)
        n = x.numel() if self.is_weight else x.numel() // x.shape[0]
        return lsq(x, self.step, self.lo, self.hi, 1 / math.sqrt(n * self.hi))


class Recipe:
    """Makes the layers of a network: float, or with quantizers of weights and inputs."""

    def __init__(self, method, bits="w4a4"):
        self.method = method
        if method == "lsq":
            found = re.fullmatch(r"w([2-8])a([2-8])", bits)
            if not found:
                sys.exit(f"torch_nets: bits: expected wNaM with N, M from 2 to 8, found '{bits}'")
            self.weight_bits, self.act_bits = int(found[1]), int(found[2])
        elif method != "float":
            sys.exit(f"torch_nets: method: expected float or lsq, found '{method}'")

    def layer(self, kind, *args, edge=False, signed_input=False, **kwargs):
        module = kind(*args, **kwargs)
        if self.method == "float":
            return module
        weight_bits, act_bits = (EDGE_BITS, EDGE_BITS) if edge else (self.weight_bits, self.act_bits)
        return Quantized(module, Quantizer(weight_bits, True, True), Quantizer(act_bits, signed_input, False))


class Quantized(nn.Module):
    """A convolution or linear layer that reads quantized weights and a quantized input."""

    def __init__(self, layer, weight, act):
        super().__init__()
        self.layer, self.quantize_weight, self.quantize_input = layer, weight, act

    def forward(self, x):
        x, w = self.quantize_input(x), self.quantize_weight(self.layer.weight)
        if isinstance(self.layer, nn.ConvTranspose2d):
            return F.conv_transpose2d(x, w, self.layer.bias, self.layer.stride, self.layer.padding)
        if isinstance(self.layer, nn.Conv2d):
            return F.conv2d(x, w, self.layer.bias, self.layer.stride, self.layer.padding, groups=self.layer.groups)
        return F.linear(x, w, self.layer.bias)


def quantize(net, recipe, is_signed):
    """Quantizers into a network that is made already. is_signed: may the input of the layer of that name be negative?"""
    kinds = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
    names = [n for n, m in net.named_modules() if isinstance(m, kinds)]
    for name in names if recipe.method != "float" else ():
        parent, _, child = name.rpartition(".")
        holder = net.get_submodule(parent)
        bits = (EDGE_BITS, EDGE_BITS) if name in (names[0], names[-1]) else (recipe.weight_bits, recipe.act_bits)
        setattr(holder, child, Quantized(getattr(holder, child), Quantizer(bits[0], True, True),
                                         Quantizer(bits[1], is_signed(name), False)))
    return net


class ConvBn(nn.Module):
    """Named like Detent's layers within a scope: convN, bnN."""

    def __init__(self, recipe, n, c_in, c_out, stride, **kwargs):
        super().__init__()
        self.conv, self.bn = f"conv{n}", f"bn{n}"
        self.add_module(self.conv, recipe.layer(nn.Conv2d, c_in, c_out, 3, stride, padding=1, bias=False, **kwargs))
        self.add_module(self.bn, nn.BatchNorm2d(c_out))

    def forward(self, x):
        return getattr(self, self.bn)(getattr(self, self.conv)(x))


class Block(nn.Module):
    def __init__(self, recipe, c_in, c_out, stride):
        super().__init__()
        self.one, self.two = ConvBn(recipe, 1, c_in, c_out, stride), ConvBn(recipe, 2, c_out, c_out, 1)
        self.stride, self.side = stride, (c_out - c_in) // 2

    def shortcut(self, x):
        if self.stride == 1 and self.side == 0:
            return x
        return F.pad(x[:, :, ::self.stride, ::self.stride], (0, 0, 0, 0, self.side, self.side))

    def forward(self, x):
        return F.relu(self.two(F.relu(self.one(x))) + self.shortcut(x))


class Resnet20(nn.Module):
    """models/resnet20.c"""

    image, classes = (3, 32, 32), 10

    def __init__(self, recipe):
        super().__init__()
        self.stem = ConvBn(recipe, 1, 3, 16, 1, edge=True, signed_input=True)
        channels = 16
        for s in range(3):
            stage = nn.ModuleDict()
            for b in range(3):
                stage[f"b{b}"] = Block(recipe, channels, 16 << s, 2 if s > 0 and b == 0 else 1)
                channels = 16 << s
            self.add_module(f"s{s}", stage)
        self.head = recipe.layer(nn.Linear, channels, self.classes, edge=True)

    def forward(self, x):
        x = F.relu(self.stem(x))
        for stage in (self.s0, self.s1, self.s2):
            for block in stage.values():
                x = block(x)
        return self.head(x.mean((2, 3)))


class Mnist(nn.Module):
    """models/mnist.c"""

    image, classes = (1, 28, 28), 10

    def __init__(self, recipe):
        super().__init__()
        self.conv1 = recipe.layer(nn.Conv2d, 1, 32, 3, edge=True, signed_input=True)
        self.conv2 = recipe.layer(nn.Conv2d, 32, 64, 3)
        self.fc1 = recipe.layer(nn.Linear, 9216, 128)
        self.fc2 = recipe.layer(nn.Linear, 128, self.classes, edge=True)

    def forward(self, x):
        x = F.relu(self.conv2(F.relu(self.conv1(x))))
        x = F.dropout(F.max_pool2d(x, 2), 0.25, self.training)
        x = F.relu(self.fc1(torch.flatten(x, 1)))
        return self.fc2(F.dropout(x, 0.5, self.training))


class EfficientNetB3(nn.Module):
    """models/efficientnet.c, torchvision's own"""

    image, classes = (3, 300, 300), 1000

    def __init__(self, recipe):
        super().__init__()
        import torchvision
        self.net = quantize(torchvision.models.efficientnet_b3(weights=None, num_classes=self.classes), recipe, lambda name: True)

    def forward(self, x):
        return self.net(x)


def convs(c_in, *channels, last=True):
    """3x3 convolutions, each with a ReLU behind it; last False: not behind the last."""
    layers = []
    for i, c in enumerate(channels):
        layers.append(nn.Conv2d(c_in, c, 3, padding=1))
        if last or i + 1 < len(channels):
            layers.append(nn.ReLU(inplace=True))
        c_in = c
    return nn.Sequential(*layers)


class Cbdnet(nn.Module):
    """models/cbdnet.c; the level of noise is kept for the loss"""

    image, classes = (3, 128, 128), 0

    def __init__(self, recipe):
        super().__init__()
        self.estimate = convs(3, 32, 32, 32, 32, 3)
        self.inc = convs(6, 64, 64)
        self.down1, self.down2 = convs(64, 128, 128, 128), convs(128, *6 * (256,))
        self.up1, self.up2 = nn.ConvTranspose2d(256, 128, 2, 2), nn.ConvTranspose2d(128, 64, 2, 2)
        self.conv1, self.conv2 = convs(128, 128, 128, 128), convs(64, 64, 64)
        self.out = nn.Conv2d(64, 3, 1)
        quantize(self, recipe, lambda name: name in ("estimate.0", "inc.0", "conv1.0", "conv2.0"))

    def forward(self, x):
        self.sigma = self.estimate(x)
        skip1 = self.inc(torch.cat((x, self.sigma), 1))
        skip2 = self.down1(F.avg_pool2d(skip1, 2))
        y = self.conv1(self.up1(self.down2(F.avg_pool2d(skip2, 2))) + skip2)
        return x + self.out(self.conv2(self.up2(y) + skip1))


def cbdnet_loss(y, target, sigma, noise):
    """Mean squares; total variation of the level of noise; where the true one is known, 0.7 and 0.3 of its squared error."""
    tv = (sigma[:, :, 1:] - sigma[:, :, :-1]).square().mean() + (sigma[..., 1:] - sigma[..., :-1]).square().mean()
    weight = torch.where(sigma < noise, 0.7, 0.3) * (noise >= 0)
    return F.mse_loss(y, target) + 0.05 * tv + 0.5 * (weight * (sigma - noise).square()).mean()


NETS = {"resnet20": Resnet20, "mnist": Mnist, "efficientnet_b3": EfficientNetB3, "cbdnet": Cbdnet}


def for_evaluation(net, images):
    """The network in eval mode, its batch norms with the statistics of this batch, its quantizers with first step sizes. With the
    statistics of a fresh network, 0 and 1, values of a deep one would fall to denormals, which are slow."""
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    momentum = [m.momentum for m in norms]
    for m in norms:
        m.momentum = 1.0
    with torch.no_grad():
        net.train()(images)
    for m, old in zip(norms, momentum):
        m.momentum = old
    return net.eval()


def detent_name(name):
    """Detent's name of a PyTorch param: 's1.b0.one.bn1.weight' -> 's1.b0.bn1.gamma'."""
    parts = [p for p in name.split(".") if p not in ("one", "two", "layer")]
    if re.fullmatch(r"bn\d+", parts[-2]):
        parts[-1] = {"weight": "gamma", "bias": "beta"}.get(parts[-1], parts[-1])
    return ".".join(parts).replace("quantize_weight.", "weight.").replace("quantize_input.", "input.")


def sgd(net, lr, momentum, weight_decay):
    """Decay on weights alone: not on biases, norms and step sizes, which have one dimension or none."""
    params = list(net.parameters())
    groups = [{"params": [p for p in params if p.ndim > 1], "weight_decay": weight_decay},
              {"params": [p for p in params if p.ndim <= 1], "weight_decay": 0.0}]
    return torch.optim.SGD(groups, lr=lr, momentum=momentum, fused=True)  # the fastest form of its optimizer
