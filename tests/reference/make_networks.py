#!/usr/bin/env python3
"""make_networks.py: writes networks.json: outputs, losses and gradients of every network of models/, by PyTorch, from
weights and batches that a formula gives, so that no file of weights is needed. tests/unit/test_parity_nets.c has Detent
compute the same, tests/unit/test_import.c reads the weights under PyTorch's names.

    tests/reference/make_networks.py [--table] [FILE]

The networks are torchvision's own (EfficientNet, MobileNetV2; TensorFlow's form and the lite form made of the same
modules), the ResNet-20 that is used most (akamaster's names), CBDNet in the form of its PyTorch code that is used most
(IDKiro's names) and in that of the released weights, and small ones written here. Dropout and drop-connect draw Detent's
own masks. Numbers are of float64; what PyTorch itself gets in float32 is compared with them and said in the file.

Of several batches the one is taken whose values keep away best from the kinks of ReLU, ReLU6 and maxpool: a value that rounding
carries over one changes gradients by much more than rounding.

Kept of a tensor: its length (root of the sum of squares) and its product with a vector of random signs. Both together
notice an element that is wrong, missing or in another's place. Of outputs the first elements, too.

--table: params and multiplications of each network, to look at.
"""
import argparse
import functools
import json
import math
import os
import re
import sys

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))

import numpy as np  # noqa: E402
import philox  # noqa: E402
import torch  # noqa: E402
import torchvision  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402
from torchvision.models import efficientnet as tv  # noqa: E402

SEED, TURN, TRIES = 11, 3, 24  # of all random numbers; the number of the step; batches to choose from


# ---- Kinks ------------------------------------------------------------------------------------------------------------

kinks = []  # of one run: how near values came to a place where a derivative jumps, in units of their size


def near(x, *places):
    """Notes x, returns it."""
    with torch.no_grad():
        size = x.square().mean().sqrt()
        kinks.extend(float((x - p).abs().min() / size) for p in places)
    return x


def relu(x):
    return F.relu(near(x, 0))


class Relu(nn.Module):
    def forward(self, x):
        return relu(x)


class Relu6(nn.Module):
    def forward(self, x):
        return F.relu6(near(x, 0, 6))


def maxpool(x):
    """2 x 2; its derivative jumps where the largest two of a window are equal, unless both are the 0 of a ReLU."""
    with torch.no_grad():
        h, w = x.shape[2] // 2 * 2, x.shape[3] // 2 * 2
        windows = x[:, :, :h, :w].unfold(2, 2, 2).unfold(3, 2, 2).flatten(4)
        top = windows.topk(2, -1).values
        gap = (top[..., 0] - top[..., 1])[top[..., 0] != 0]
        kinks.append(float(gap.min() / x.square().mean().sqrt()))
    return F.max_pool2d(x, 2)


# ---- Networks ---------------------------------------------------------------------------------------------------------


class DropElements(nn.Module):
    """Detent's dropout; `name` is its layer."""

    def __init__(self, p, name):
        super().__init__()
        self.p, self.name = p, name

    def forward(self, x):
        if not self.training or self.p == 0:
            return x
        p = float(np.float32(self.p))
        draws = philox.u32(SEED, philox.hash_u32(self.name) & 0x7FFFFFFF, TURN, x.numel() if self.each else x.shape[0])
        keep = torch.from_numpy((draws >= np.uint32(p * 2.0**32)).astype(np.float64)).to(x.dtype)
        return x * keep.reshape(x.shape if self.each else (-1, 1, 1, 1)) / (1 - p)

    each = True


class DropSamples(DropElements):
    each = False


class Resnet20(nn.Module):
    """akamaster's names"""

    class Block(nn.Module):
        def __init__(self, c_in, c_out, stride, option):
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False), nn.BatchNorm2d(c_out)
            self.conv2, self.bn2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False), nn.BatchNorm2d(c_out)
            self.shortcut, self.stride, self.side = nn.Sequential(), stride, 0
            if c_in != c_out and option == "A":
                self.side = c_out // 4
            elif c_in != c_out:
                self.shortcut = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))

        def forward(self, x):
            y = self.bn2(self.conv2(relu(self.bn1(self.conv1(x)))))
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.side, self.side)) if self.side else self.shortcut(x)
            return relu(y + x)

    def __init__(self, option):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        c_in = 16
        for s in range(3):
            stage = []
            for b in range(3):
                stage.append(self.Block(c_in, 16 << s, 2 if s > 0 and b == 0 else 1, option))
                c_in = 16 << s
            setattr(self, f"layer{s + 1}", nn.Sequential(*stage))
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(relu(self.bn1(self.conv1(x))))))
        return self.linear(x.mean((2, 3)))

    @staticmethod
    def name(module):
        module = re.sub(r"^layer(\d)\.(\d)\.", lambda m: f"s{int(m[1]) - 1}.b{m[2]}.", module)
        module = module.replace("shortcut.0", "shortcut").replace("shortcut.1", "shortcut_bn")
        return {"conv1": "stem.conv1", "bn1": "stem.bn1", "linear": "head"}.get(module, module)


class Mnist(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 32, 3), nn.Conv2d(32, 64, 3)
        self.fc1, self.fc2 = nn.Linear(9216, 128), nn.Linear(128, 10)
        self.drop1, self.drop2 = DropElements(0.25, "dropout1"), DropElements(0.5, "dropout2")

    def forward(self, x):
        x = relu(self.conv2(relu(self.conv1(x))))
        x = relu(self.fc1(torch.flatten(self.drop1(maxpool(x)), 1)))
        return self.fc2(self.drop2(x))

    @staticmethod
    def name(module):
        return module


class VggSmall(nn.Module):
    def __init__(self, side=16):
        super().__init__()
        c_in, widths = 3, (128, 128, 256, 256, 512, 512)
        for i, c in enumerate(widths):
            self.add_module(f"s{i // 2}_conv{i % 2 + 1}", nn.Conv2d(c_in, c, 3, padding=1, bias=False))
            self.add_module(f"s{i // 2}_bn{i % 2 + 1}", nn.BatchNorm2d(c))
            c_in = c
        self.head = nn.Linear(512 * (side // 8) ** 2, 10)

    def forward(self, x):
        for s in range(3):
            for i in (1, 2):
                x = relu(getattr(self, f"s{s}_bn{i}")(getattr(self, f"s{s}_conv{i}")(x)))
            x = maxpool(x)
        return self.head(torch.flatten(x, 1))

    @staticmethod
    def name(module):
        return module.replace("_", ".")


def mobilenetv2():
    net = torchvision.models.mobilenet_v2(weights=None)
    net.classifier[0] = DropElements(0.2, "dropout1")
    for parent, key, child in each_child(net):
        if isinstance(child, nn.ReLU6):
            setattr(parent, key, Relu6())
    places = [f"s{s}.b{b}" for s, n in enumerate((1, 2, 3, 4, 3, 3, 1)) for b in range(n)]

    def name(module):
        part = module.split(".")
        if module == "classifier.1":
            return "classifier"
        if part[1] in ("0", "18"):
            return ("stem." if part[1] == "0" else "head.") + ("conv1", "bn1")[int(part[2])]
        block = int(part[1]) - 1
        inside = ["expand", "dw"][block == 0:]
        at = int(part[3])
        if len(part) == 5:
            return f"{places[block]}.{inside[at]}." + ("conv1", "bn1")[int(part[4])]
        return f"{places[block]}.project." + ("conv1", "bn1")[at - len(inside)]

    net.name = name
    return net


class Same(nn.Module):
    """TensorFlow's SAME: what is odd is padded below and right."""

    def __init__(self, conv):
        super().__init__()
        self.conv = conv
        conv.padding = (0, 0)

    def forward(self, x):
        pads = []
        for size in (x.shape[3], x.shape[2]):
            k, s = self.conv.kernel_size[0], self.conv.stride[0]
            total = max((math.ceil(size / s) - 1) * s + k - size, 0)
            pads += [total // 2, total - total // 2]
        return self.conv(F.pad(x, pads))


LITE = [(1, 3, 1, 32, 16, 1), (6, 3, 2, 16, 24, 2), (6, 5, 2, 24, 40, 2), (6, 3, 2, 40, 80, 3), (6, 5, 1, 80, 112, 3),
        (6, 5, 2, 112, 192, 4), (6, 3, 1, 192, 320, 1)]


def lite_settings(width, depth):
    def channels(c):
        return tv._make_divisible(c * width, 8)
    rows = []
    for i, (expand, kernel, stride, c_in, c_out, n) in enumerate(LITE):
        row = tv.MBConvConfig(expand, kernel, stride, c_in, c_out, 1)
        row.input_channels = c_in if i == 0 else channels(c_in)
        row.out_channels = channels(c_out)
        row.num_layers = n if i in (0, len(LITE) - 1) else math.ceil(n * depth)
        rows.append(row)
    return rows


def each_child(net):
    return [(parent, key, child) for parent in net.modules() for key, child in parent.named_children()]


def efficientnet(width, depth, p, tensorflow=False, lite=False):
    settings, last = tv._efficientnet_conf("efficientnet_b0", width_mult=width, depth_mult=depth)
    if lite:
        settings, last = lite_settings(width, depth), 1280
    norm = functools.partial(nn.BatchNorm2d, eps=1e-3, momentum=0.01) if tensorflow else None
    net = tv.EfficientNet(settings, p, norm_layer=norm, last_channel=last)
    net.classifier[0] = DropElements(p, "dropout1")
    for path, module in net.named_modules():
        if isinstance(module, tv.MBConv):
            _, s, b = path.split(".")
            module.stochastic_depth = DropSamples(module.stochastic_depth.p, f"s{int(s) - 1}.b{b}.drop_connect1")
    for parent, key, child in each_child(net):
        if lite and isinstance(child, nn.SiLU):
            setattr(parent, key, Relu6())
        elif lite and isinstance(child, tv.SqueezeExcitation):
            setattr(parent, key, nn.Identity())
        elif tensorflow and isinstance(child, nn.Conv2d) and child.kernel_size[0] > 1:
            setattr(parent, key, Same(child))
    stages = len(settings)

    def name(module):
        part = module.replace(".conv", "").split(".")
        if part[0] == "classifier":
            return "classifier"
        if len(part) == 3:
            return ("stem." if part[1] == "0" else "head.") + ("conv1", "bn1")[int(part[2])]
        assert 1 <= int(part[1]) <= stages and part[3] == "block"
        inside = ["expand", "dw", "se", "project"][part[1] == "1":]
        last = part[5] if part[5].startswith("fc") else ("conv1", "bn1")[int(part[5])]
        return f"s{int(part[1]) - 1}.b{part[2]}.{inside[int(part[4])]}.{last}"

    net.name = name
    return net


def timm_name(module):
    """timm's name of Detent's module."""
    ends = {"stem.conv1": "conv_stem", "stem.bn1": "bn1", "head.conv1": "conv_head", "head.bn1": "bn2"}
    if not module.startswith("s") or module in ends:
        return ends.get(module, module)
    s, b, part, layer = module.split(".")
    if part == "se":
        inside = {"fc1": "se.conv_reduce", "fc2": "se.conv_expand"}[layer]
    elif s == "s0":
        inside = {"dw": ("conv_dw", "bn1"), "project": ("conv_pw", "bn2")}[part][layer == "bn1"]
    else:
        inside = {"expand": ("conv_pw", "bn1"), "dw": ("conv_dw", "bn2"), "project": ("conv_pwl", "bn3")}[part][layer == "bn1"]
    return f"blocks.{s[1:]}.{b[1:]}.{inside}"


def single(c_in, c_out):
    block = nn.Module()
    block.conv = nn.Sequential(nn.Conv2d(c_in, c_out, 3, padding=1), Relu())
    block.forward = block.conv.forward
    return block


def singles(*channels):
    return nn.Sequential(*(single(a, b) for a, b in zip(channels, channels[1:])))


def grown(x, like):
    dy, dx = like.shape[2] - x.shape[2], like.shape[3] - x.shape[3]
    return F.pad(x, (dx // 2, dx - dx // 2, dy // 2, dy - dy // 2))


class Cbdnet(nn.Module):
    """IDKiro's names"""

    def __init__(self):
        super().__init__()
        layers = []
        for a, b in ((3, 32), (32, 32), (32, 32), (32, 32), (32, 3)):
            layers += [nn.Conv2d(a, b, 3, padding=1), Relu()]
        self.fcn, self.unet = nn.Module(), nn.Module()
        self.fcn.fcn = nn.Sequential(*layers)
        u = self.unet
        u.inc, u.conv1, u.conv2 = singles(6, 64, 64), singles(64, 128, 128, 128), singles(128, *6 * (256,))
        u.conv3, u.conv4 = singles(128, 128, 128, 128), singles(64, 64, 64)
        u.up1, u.up2, u.outc = nn.Module(), nn.Module(), nn.Module()
        u.up1.up, u.up2.up = nn.ConvTranspose2d(256, 128, 2, 2), nn.ConvTranspose2d(128, 64, 2, 2)
        u.outc.conv = nn.Conv2d(64, 3, 1)

    def forward(self, y):
        u = self.unet
        self.sigma = self.fcn.fcn(y)
        a = u.inc(torch.cat((y, self.sigma), 1))
        b = u.conv1(F.avg_pool2d(a, 2))
        x = u.conv3(b + grown(u.up1.up(u.conv2(F.avg_pool2d(b, 2))), b))
        x = u.conv4(a + grown(u.up2.up(x), a))
        return y + u.outc.conv(x)

    @staticmethod
    def name(module):
        if module.startswith("fcn"):
            return f"noise.conv{int(module.split('.')[2]) // 2 + 1}"
        part = module.split(".")[1:]
        if part[0] in ("up1", "up2", "outc"):
            return {"up1": "dec1.up", "up2": "dec0.up", "outc": "out"}[part[0]]
        scope = {"inc": "enc0", "conv1": "enc1", "conv2": "mid", "conv3": "dec1", "conv4": "dec0"}[part[0]]
        return f"{scope}.conv{int(part[1]) + 1}"


class CbdnetReleased(nn.Module):
    """The names of the released weights in PyTorch"""

    def __init__(self):
        super().__init__()
        def conv(name, a, b, k=3, s=1):
            self.add_module(name, nn.Conv2d(a, b, k, s, padding=k // 2 if k == 3 else 0))
        for i, (a, b) in enumerate(((3, 32), (32, 32), (32, 32), (32, 32), (32, 3))):
            conv(f"E0{i + 1}", a, b)
        for i in range(4):
            conv(f"DS01_layer0{i}", 64 if i else 6, 64)
        conv("DS02", 64, 256, 2, 2)
        conv("DS02_layer00_cf", 256, 128, 1)
        conv("DS03", 128, 512, 2, 2)
        conv("DS03_layer00_cf", 512, 256, 1)
        for i in range(3):
            conv(f"DS02_layer0{i}", 128, 128)
            conv(f"DS03_layer0{i}", 256, 256)
        for i in range(4):
            conv(f"UPS03_layer0{i}", 256, 512 if i == 3 else 256)
        self.USP02, self.USP01 = (nn.ConvTranspose2d(a, b, 2, 2, bias=False) for a, b in ((512, 128), (256, 64)))
        for i in range(3):
            conv(f"US02_layer0{i}", 128, 256 if i == 2 else 128)
            conv(f"US01_layer0{i}", 64, 3 if i == 2 else 64)

    def run(self, x, prefix, n):
        for i in range(n):
            x = relu(getattr(self, f"{prefix}{i}")(x))
        return x

    def forward(self, y):
        self.sigma = y
        for i in range(5):
            self.sigma = relu(getattr(self, f"E0{i + 1}")(self.sigma))
        a = self.run(torch.cat((y, self.sigma), 1), "DS01_layer0", 4)
        b = self.run(self.DS02_layer00_cf(self.DS02(a)), "DS02_layer0", 3)
        x = self.run(self.DS03_layer00_cf(self.DS03(b)), "DS03_layer0", 3)
        x = self.run(self.USP02(self.run(x, "UPS03_layer0", 4)) + b, "US02_layer0", 3)
        return y + self.US01_layer02(self.run(self.USP01(x) + a, "US01_layer0", 2))

    @staticmethod
    def name(module):
        fixed = {"DS02": "enc1.down", "DS02_layer00_cf": "enc1.narrow", "DS03": "mid.down", "DS03_layer00_cf": "mid.narrow",
                 "USP02": "dec1.up", "USP01": "dec0.up", "US01_layer02": "out"}
        if module in fixed:
            return fixed[module]
        scope, first = {"E": ("noise", 0), "DS01": ("enc0", 1), "DS02": ("enc1", 1), "DS03": ("mid", 1), "UPS03": ("mid", 4),
                        "US02": ("dec1", 1), "US01": ("dec0", 1)}[re.match(r"E|[A-Z]+\d\d", module)[0]]
        return f"{scope}.conv{int(module[-1]) + first}"


class Unet(nn.Module):
    def __init__(self):
        super().__init__()
        def two(name, a, b):
            self.add_module(f"{name}_conv1", nn.Conv2d(a, b, 3, padding=1))
            self.add_module(f"{name}_conv2", nn.Conv2d(b, b, 3, padding=1))
        two("enc0", 3, 32), two("enc1", 32, 64), two("mid", 64, 128), two("dec1", 128, 64), two("dec0", 64, 32)
        self.up1, self.up0 = nn.Conv2d(128, 64, 3, padding=1), nn.Conv2d(64, 32, 3, padding=1)
        self.out = nn.Conv2d(32, 3, 1)

    def two(self, x, name):
        for i in (1, 2):
            x = F.leaky_relu(near(getattr(self, f"{name}_conv{i}")(x), 0), float(np.float32(0.2)))
        return x

    def join(self, x, skip, conv):
        x = conv(F.interpolate(x, scale_factor=2))
        return torch.cat((F.pad(x, (0, skip.shape[3] - x.shape[3], 0, skip.shape[2] - x.shape[2])), skip), 1)

    def forward(self, y):
        a = self.two(y, "enc0")
        b = self.two(maxpool(a), "enc1")
        x = self.two(maxpool(b), "mid")
        x = self.two(self.join(x, b, self.up1), "dec1")
        return y + self.out(self.two(self.join(x, a, self.up0), "dec0"))

    @staticmethod
    def name(module):
        return module.replace("_", ".")


# name, maker, channels and size of image here, batch, size of image for the table of multiplications
NETS = [
    ("resnet20", lambda: Resnet20("A"), (3, 16, 16), 4, (32, 32)),
    ("resnet20_b", lambda: Resnet20("B"), (3, 16, 16), 4, (32, 32)),
    ("mnist", Mnist, (1, 28, 28), 2, (28, 28)),
    ("vgg_small", VggSmall, (3, 16, 16), 2, (32, 32)),
    ("mobilenetv2", mobilenetv2, (3, 33, 48), 4, (224, 224)),
    ("efficientnet_b0", lambda: efficientnet(1.0, 1.0, 0.2), (3, 65, 96), 4, (224, 224)),
    ("efficientnet_b3", lambda: efficientnet(1.2, 1.4, 0.3), (3, 65, 96), 4, (300, 300)),
    ("tf_efficientnet_b0", lambda: efficientnet(1.0, 1.0, 0.2, True), (3, 65, 96), 4, (224, 224)),
    ("efficientnet_lite0", lambda: efficientnet(1.0, 1.0, 0.2, True, True), (3, 33, 48), 4, (224, 224)),
    ("efficientnet_lite3", lambda: efficientnet(1.2, 1.4, 0.3, True, True), (3, 33, 48), 4, (280, 280)),
    ("cbdnet", Cbdnet, (3, 19, 14), 2, (256, 256)),
    ("cbdnet_released", CbdnetReleased, (3, 16, 20), 2, (256, 256)),
    ("unet", Unet, (3, 19, 14), 2, (256, 256)),
]
SMOOTHING = 0.1  # of labels, EfficientNet's


# ---- Weights, batches, losses -----------------------------------------------------------------------------------------


def leaves(net):
    """Detent's name -> PyTorch's name, of all params and statistics."""
    out = {}
    for name in net.state_dict():
        module, word = name.rsplit(".", 1)
        if word == "num_batches_tracked":
            continue
        module = net.name(module)
        if re.search(r"bn\d?$", module):
            word = {"weight": "gamma", "bias": "beta"}.get(word, word)
        out[f"{module}.{word}"] = name
    return out


def value(name, shape):
    """Weights of He's size; everything else near what it starts from, and no two alike. The wide inner layers of MBConv
    work mostly where ReLU6 is a line, or no batch would keep away from its kinks; weights behind them have sums of 0, or
    that line's height would be all that the running statistics leave of an image."""
    x = philox.normal(SEED, philox.hash_u32("parity"), philox.hash_u32(name), int(np.prod(shape))).astype(np.float64)
    word = name.rsplit(".", 1)[1]
    inner = ".dw." in name or ".expand." in name
    if word == "weight":
        x *= math.sqrt(2 / np.prod(shape[1:]))
        if ".dw." in name or ".project." in name:
            rows = x.reshape(shape[0], -1)
            x = (rows - rows.mean(1, keepdims=True)).reshape(-1)
    elif word in ("gamma", "running_var"):
        x = (0.6 if inner and word == "gamma" else 1) * (1 + 0.25 * np.tanh(x))
    else:
        x = (2 if inner and word == "beta" else 0) + 0.1 * x
    return x.astype(np.float32).reshape(shape)


def fill(net):
    with torch.no_grad():
        state = net.state_dict()
        for name, theirs in leaves(net).items():
            shape = tuple(state[theirs].shape)
            if name.endswith(".weight") and re.search(r"\.se\.fc\d\.", name):
                shape = shape[:2]
            state[theirs].copy_(torch.from_numpy(value(name, shape)).reshape(state[theirs].shape))


def batch(net, image, n, k, dtype):
    shape = (n, *image)
    size = int(np.prod(shape))
    if net.restores:
        x = philox.uniform(SEED, 1, k, size)
        target = x + np.float32(0.1) * philox.normal(SEED, 3, k, size)
        noise = (np.float32(0.2) * philox.uniform(SEED, 4, k, size)).reshape(shape)
        noise[0] = -1  # of the first picture it is not known
        return [torch.from_numpy(v.reshape(shape)).to(dtype) for v in (x, target, noise)]
    label = philox.u32(SEED, 2, k, n) % net.classes
    return torch.from_numpy(philox.normal(SEED, 1, k, size).reshape(shape)).to(dtype), torch.from_numpy(label.astype(np.int64))


def loss_of(net, y, given):
    if not net.restores:
        return F.cross_entropy(y, given[0], label_smoothing=float(np.float32(SMOOTHING)) if net.smooth else 0.0)
    target, noise = given
    if not hasattr(net, "sigma"):
        return ((y - target).square() + 1e-6).sqrt().mean()
    s = net.sigma
    tv_loss = (s[:, :, 1:] - s[:, :, :-1]).square().mean() + (s[..., 1:] - s[..., :-1]).square().mean()
    weight = (0.3 - (s < noise).to(s.dtype)).abs() * (noise >= 0)
    return F.mse_loss(y, target) + 0.05 * tv_loss + 0.5 * (weight * (s - noise).square()).mean()


def make(maker, name):
    torch.manual_seed(0)
    net = maker()
    net.restores = name in ("cbdnet", "cbdnet_released", "unet")
    net.smooth = "efficientnet" in name
    net.classes = 1000 if "net_" in name or name == "mobilenetv2" else 10
    return net


def run(maker, name, image, n, k, dtype):
    net = make(maker, name)
    fill(net)
    net.to(dtype)
    x, *given = batch(net, image, n, k, dtype)
    with torch.no_grad():
        logits = net.eval()(x)
        other = net(x.flip(0))
    kinks.clear()
    y = net.train()(x)
    loss = loss_of(net, y, given)
    loss.backward()
    names = leaves(net)
    grads = {ours: dict(net.named_parameters())[theirs].grad for ours, theirs in names.items() if ".running" not in ours}
    states = {ours: net.state_dict()[theirs] for ours, theirs in names.items() if ".running" in ours}
    assert all(g is not None for g in grads.values())
    spread = float((logits - other).norm() / logits.norm())
    return logits, float(loss.detach()), grads, states, spread


# ---- What is kept -----------------------------------------------------------------------------------------------------


def signs(name, n):
    return 1 - 2 * (philox.u32(SEED, philox.hash_u32("sign"), philox.hash_u32(name), n) & 1).astype(np.float64)


def mark(name, t):
    x = t.detach().double().numpy().reshape(-1)
    return [float(f"{v:.9g}") for v in (math.sqrt(float(x @ x)), float(signs(name, x.size) @ x))]


def worst(marks, rough):
    """How far float32 is off, in lengths of each tensor; of a tensor that is 0 but for rounding, the gradient of a shift
    that a batch norm takes out again, in thousandths of the length of all."""
    total = math.sqrt(sum(m[0] ** 2 for m in marks.values()))
    return max((abs(a - b) / (m[0] if m[0] > 1e-9 * total else 1e-3 * total)
                for name, m in marks.items() for a, b in zip(m, rough[name])), default=0.0)


def smooth_batch(name, maker, image, n):
    """The number of the batch that keeps away from kinks best: there, rounding moves gradients by a whole element."""
    net, best, chosen = make(maker, name).double(), -1.0, 0
    fill(net)
    for k in range(TRIES):
        kinks.clear()
        with torch.no_grad():
            net.train()(batch(net, image, n, k, torch.float64)[0])
        if not kinks:
            return 0, 0
        if min(kinks) > best:
            best, chosen = min(kinks), k
    return chosen, best


def record(name, maker, image, n):
    k, kink = smooth_batch(name, maker, image, n)
    logits, loss, grads, states, spread = run(maker, name, image, n, k, torch.float64)
    logits32, loss32, grads32, states32, _ = run(maker, name, image, n, k, torch.float32)
    out = {"net": name, "image": list(image), "batch": n, "number": k, "kink": float(f"{kink:.2g}"), "loss": float(f"{loss:.9g}"), "logits": mark("logits", logits),
           "first": [float(f"{v:.8g}") for v in logits.flatten()[:12]],
           "grads": {k: mark(k, v) for k, v in grads.items()}, "states": {k: mark(k, v) for k, v in states.items()}}
    out["float32"] = {"logits": worst({"logits": out["logits"]}, {"logits": mark("logits", logits32)}),
                      "loss": abs(loss - loss32) / abs(loss),
                      "grads": worst(out["grads"], {k: mark(k, v) for k, v in grads32.items()}),
                      "states": worst(out["states"], {k: mark(k, v) for k, v in states32.items()})}
    out["float32"] = {k: float(f"{v:.2g}") for k, v in out["float32"].items()}
    print(f"{name}: batch {k}, {kink:.1e} from kinks, loss {loss:.6f}, logits {out['logits'][0]:.4g}, of another batch {spread:.2f} away; float32 is off by",
          ", ".join(f"{k} {v:.1e}" for k, v in out["float32"].items()), flush=True)
    return out


def state_dicts():
    """The names that files of weights have: which of Detent's modules each of theirs is."""
    makers = {name: maker for name, maker, *_ in NETS}
    out = []
    for form, name in (("akamaster", "resnet20"), ("akamaster", "resnet20_b"), ("torchvision", "efficientnet_b3"),
                       ("IDKiro", "cbdnet"), ("released", "cbdnet_released")):
        net = make(makers[name], name)
        names = {theirs.rsplit(".", 1)[0]: ours.rsplit(".", 1)[0] for ours, theirs in leaves(net).items()}
        out.append({"form": form, "net": name, "modules": [f"{a} {b}" for a, b in names.items()]})
    for name in ("efficientnet_b3", "efficientnet_lite0"):
        ours = dict.fromkeys(k.rsplit(".", 1)[0] for k in leaves(make(makers[name], name)))
        out.append({"form": "timm", "net": name, "modules": [f"{timm_name(m)} {m}" for m in ours]})
    return out


def table():
    for name, maker, image, _, size in NETS:
        net = make((lambda: VggSmall(32)) if name == "vgg_small" else maker, name).eval()
        macs = []
        def count(module, x, y):
            w = module.weight
            at = x[0] if isinstance(module, nn.ConvTranspose2d) else y
            macs.append(at.numel() * w[0].numel())
        for m in net.modules():
            if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
                m.register_forward_hook(count)
        with torch.no_grad():
            net(torch.rand(1, image[0], *size))
        params = sum(p.numel() for p in net.parameters())
        print(f"{name:20} {params:12,} params {sum(macs):16,} MACs at {size[0]}x{size[1]}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--net", help="only this one, and no file")
    parser.add_argument("file", nargs="?", default=os.path.join(HERE, "networks.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.table:
        return table()
    nets = [record(name, maker, image, n) for name, maker, image, n, _ in NETS if args.net in (None, name)]
    if args.net:
        return
    out = {"made_by": f"make_networks.py with torch {torch.__version__}, torchvision {torchvision.__version__}",
           "seed": SEED, "step": TURN, "nets": nets, "state_dicts": state_dicts()}
    with open(args.file, "w") as f:
        text = json.dumps(out, indent=1)
        f.write(re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", lambda m: "[" + re.sub(r",\s+", ", ", m[1]) + "]", text) + "\n")
    print(f"{args.file}: {os.path.getsize(args.file)} bytes")


main()
