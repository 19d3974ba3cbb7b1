#!/usr/bin/python3
"""What PyTorch computes with the models of residua: torchvision's own, and the CIFAR networks and Xception, written here.

    /usr/bin/python3 tests/models/make_model.py names > tests/models/names.txt
    /usr/bin/python3 tests/models/make_model.py FOLDER resnet18 …

The first lists each model's number of parameters and a hash of the names and shapes of its state_dict, in order. The
second writes into FOLDER/resnet18

    names.txt              name and shape of each tensor of the state_dict, a line each, in order
    weights.safetensors    the state_dict
    cases.safetensors      x0, y0, x1, y1: images (N, H, W, C) and the logits in evaluation; in double where a network is
                           so deep that PyTorch's float differs from its double by more than 1e-5 of the largest
    step.safetensors       for some models, in double: a training step's x, labels, loss, and by the state_dict's names
                           grad.NAME and after.NAME, gradients and buffers, in PyTorch's layout

    /usr/bin/python3 tests/models/make_model.py back FOLDER resnet18 …

loads FOLDER/resnet18/back.safetensors, which residua wrote, with strict=True, and fails where the logits are others than
before. Names with a slash are a checkpoint's, and not the network's.

It exits with 77 where PyTorch or torchvision is missing.
"""
import json
import pathlib
import struct
import sys

try:
    import torch
    import torchvision.models as tv
    from torch import nn
    from torch.nn import functional as F
except ImportError as error:
    print(error)
    sys.exit(77)


# --- models that torchvision does not have ----------------------------------------------------------------------------


class OptionA(nn.Module):
    """Every second pixel, half of the new channels in front, half behind (akamaster/pytorch_resnet_cifar10)."""

    def __init__(self, channels, stride):
        super().__init__()
        self.channels, self.stride = channels, stride

    def forward(self, x):
        pad = (self.channels - x.shape[1]) // 2
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, pad, self.channels - x.shape[1] - pad))


class CifarBlock(nn.Module):
    def __init__(self, channels_in, channels, out, stride, pre, bottleneck, option):
        super().__init__()
        sizes = [(channels_in, channels, 1, 1), (channels, channels, 3, stride), (channels, out, 1, 1)] if bottleneck \
            else [(channels_in, out, 3, stride), (out, out, 3, 1)]
        self.pre, self.convolutions = pre, len(sizes)
        for i, (a, b, kernel, s) in enumerate(sizes, 1):
            conv = nn.Conv2d(a, b, kernel, s, kernel // 2, bias=False)
            norm = nn.BatchNorm2d(a if pre else b)
            for name, module in [("bn", norm), ("conv", conv)] if pre else [("conv", conv), ("bn", norm)]:
                self.add_module(f"{name}{i}", module)
        self.shortcut = nn.Sequential()
        self.projects = False
        if stride != 1 or channels_in != out:
            self.projects = option == "B"
            if not self.projects:
                self.shortcut = OptionA(out, stride)
            else:
                projection = nn.Conv2d(channels_in, out, 1, stride, bias=False)
                self.shortcut = nn.Sequential(projection) if pre else nn.Sequential(projection, nn.BatchNorm2d(out))

    def forward(self, x):
        y = x
        if self.pre:
            for i in range(1, self.convolutions + 1):
                y = F.relu(getattr(self, f"bn{i}")(y))
                if i == 1:
                    shortcut = self.shortcut(y if self.projects else x)
                y = getattr(self, f"conv{i}")(y)
            return y + shortcut
        for i in range(1, self.convolutions + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            if i < self.convolutions:
                y = F.relu(y)
        return F.relu(y + self.shortcut(x))


class CifarResNet(nn.Module):
    """He et al. 2015 and, with pre, 2016."""

    def __init__(self, depth, pre=False, bottleneck=False, option="A"):
        super().__init__()
        blocks = (depth - 2) // (9 if bottleneck else 6)
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.pre, channels_in = pre, 16
        if not pre:
            self.bn1 = nn.BatchNorm2d(16)
        for stage in range(3):
            channels = 16 << stage
            out = 4 * channels if bottleneck else channels
            layer = []
            for i in range(blocks):
                stride = 2 if stage > 0 and i == 0 else 1
                layer.append(CifarBlock(channels_in, channels, out, stride, pre, bottleneck, option))
                channels_in = out
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layer))
        if pre:
            self.bn1 = nn.BatchNorm2d(channels_in)
        self.linear = nn.Linear(channels_in, 10)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x):
        x = self.conv1(x)
        if not self.pre:
            x = F.relu(self.bn1(x))
        x = self.layer3(self.layer2(self.layer1(x)))
        if self.pre:
            x = F.relu(self.bn1(x))
        return self.linear(x.mean((2, 3)))


class SeparableConv2d(nn.Module):
    def __init__(self, channels_in, out):
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_in, 3, 1, 1, groups=channels_in, bias=False)
        self.pointwise = nn.Conv2d(channels_in, out, 1, bias=False)

    def forward(self, x):
        return self.pointwise(self.conv1(x))


class XceptionBlock(nn.Module):
    def __init__(self, channels_in, out, repetitions, stride=1, start_with_relu=True, grow_first=True):
        super().__init__()
        self.skip = None
        if channels_in != out or stride != 1:
            self.skip = nn.Conv2d(channels_in, out, 1, stride, bias=False)
            self.skipbn = nn.BatchNorm2d(out)
        layers = []
        for i in range(repetitions):
            grown_before, grown_after = (i > 0, True) if grow_first else (False, i == repetitions - 1)
            a, b = out if grown_before else channels_in, out if grown_after else channels_in
            layers += [nn.ReLU(), SeparableConv2d(a, b), nn.BatchNorm2d(b)]
        if not start_with_relu:
            layers = layers[1:]
        if stride != 1:
            layers.append(nn.MaxPool2d(3, stride, 1))
        self.rep = nn.Sequential(*layers)

    def forward(self, x):
        return self.rep(x) + (x if self.skip is None else self.skipbn(self.skip(x)))


class Xception(nn.Module):
    """Chollet 2017, figure 5, with the names of timm's legacy_xception."""

    def __init__(self, num_classes=1000):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 32, 3, 2, bias=False), nn.BatchNorm2d(32)
        self.conv2, self.bn2 = nn.Conv2d(32, 64, 3, bias=False), nn.BatchNorm2d(64)
        self.block1 = XceptionBlock(64, 128, 2, 2, start_with_relu=False)
        self.block2 = XceptionBlock(128, 256, 2, 2)
        self.block3 = XceptionBlock(256, 728, 2, 2)
        for i in range(4, 12):
            self.add_module(f"block{i}", XceptionBlock(728, 728, 3))
        self.block12 = XceptionBlock(728, 1024, 2, 2, grow_first=False)
        self.conv3, self.bn3 = SeparableConv2d(1024, 1536), nn.BatchNorm2d(1536)
        self.conv4, self.bn4 = SeparableConv2d(1536, 2048), nn.BatchNorm2d(2048)
        self.fc = nn.Linear(2048, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x):
        x = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        for i in range(1, 13):
            x = getattr(self, f"block{i}")(x)
        x = F.relu(self.bn4(self.conv4(F.relu(self.bn3(self.conv3(x))))))
        return self.fc(x.mean((2, 3)))


# --- all models -------------------------------------------------------------------------------------------------------

# For each: how it is made without anything random in training, and the sizes of images it is tried on.
IMAGENET = [(3, 224, 224), (1, 197, 233)]
LARGE = [(3, 299, 299), (1, 267, 311)]
CIFAR = [(3, 32, 32), (1, 29, 45)]
MODELS = {
    **{name: (lambda name=name: getattr(tv, name)(), IMAGENET) for name in [
        "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d", "resnext101_32x8d",
        "wide_resnet50_2", "densenet121", "densenet169"]},
    "mobilenet_v2": (lambda: tv.mobilenet_v2(dropout=0), IMAGENET),
    "googlenet": (lambda: tv.googlenet(init_weights=True, dropout=0, dropout_aux=0), IMAGENET),
    "inception_v3": (lambda: tv.inception_v3(init_weights=True, dropout=0), LARGE),
    "convnext_tiny": (lambda: tv.convnext_tiny(stochastic_depth_prob=0), IMAGENET),
    "xception": (Xception, LARGE),
    **{f"cifar_resnet{depth}": (lambda depth=depth: CifarResNet(depth), CIFAR) for depth in [20, 32, 44, 56, 110, 1202]},
    "cifar_resnet20_b": (lambda: CifarResNet(20, option="B"), CIFAR),
    "cifar_preact_resnet110": (lambda: CifarResNet(110, pre=True), CIFAR),
    "cifar_preact_resnet164": (lambda: CifarResNet(164, pre=True, bottleneck=True, option="B"), CIFAR),
    "cifar_preact_resnet1001": (lambda: CifarResNet(1001, pre=True, bottleneck=True, option="B"), CIFAR),
}
STEPS = {"resnet18", "resnext50_32x4d", "densenet121", "googlenet", "inception_v3", "convnext_tiny", "mobilenet_v2",
         "xception", "cifar_resnet20", "cifar_preact_resnet164"}


def names(model):
    return "".join(f"{name} {'x'.join(map(str, t.shape))}\n" for name, t in model.state_dict().items())


def fnv1a(text):
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


def write_safetensors(path, tensors):
    types = {torch.float32: "F32", torch.float64: "F64", torch.int64: "I64"}
    tensors = {name: t.detach().contiguous() for name, t in tensors.items()}
    header, end = {}, 0
    for name, t in tensors.items():
        begin, end = end, end + t.numel() * t.element_size()
        header[name] = {"dtype": types[t.dtype], "shape": list(t.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for t in tensors.values():
            file.write(t.numpy().tobytes())


def read_safetensors(path):
    types = {"F32": torch.float32, "F64": torch.float64, "I64": torch.int64}
    data = pathlib.Path(path).read_bytes()
    length, = struct.unpack("<Q", data[:8])
    header, data = json.loads(data[8:8 + length]), data[8 + length:]
    header.pop("__metadata__", None)
    tensors = {}
    for name, info in header.items():
        if "/" in name:
            continue
        piece = bytearray(data[slice(*info["data_offsets"])])
        dtype = types[info["dtype"]]
        tensors[name] = torch.frombuffer(piece, dtype=dtype).reshape(info["shape"]) if piece else torch.empty(0, dtype=dtype)
    return tensors


def channels_last(images):
    return images.permute(0, 2, 3, 1)


def enliven(model, size):
    """Norms and scales as after some training, running statistics those of noise."""
    norms = [m for m in model.modules() if isinstance(m, (nn.BatchNorm2d, nn.LayerNorm))]
    with torch.no_grad():
        for norm in norms:
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.normal_(0, 0.1)
        for name, p in model.named_parameters():
            if name.endswith("layer_scale"):
                p.uniform_(0.1, 0.5)
        momenta = [(norm, norm.momentum) for norm in norms if isinstance(norm, nn.BatchNorm2d)]
        for norm, _ in momenta:
            norm.momentum = 1
        model.train()(torch.randn(4, 3, *size))
        for norm, momentum in momenta:
            norm.momentum = momentum


def is_chaotic(model, size):
    """Whether rounding matters: float differs from double by more than 1e-5 of the largest logit."""
    image = torch.randn(1, 3, *size)
    with torch.no_grad():
        logits = model.float().eval()(image)
        precise = model.double()(image.double())
    return ((logits - precise).abs().max() > 1e-5 * precise.abs().max()).item()


def case(model, dtype, batch, *size):
    """Images and their logits. Drawn again where the first two classes are too close to compare."""
    model.to(dtype).eval()
    for _ in range(20):
        images = torch.randn(batch, 3, *size).to(dtype)
        with torch.no_grad():
            logits = model(images)
        largest = logits.abs().max()
        if batch > 1:
            assert (logits[0] - logits[1]).abs().max() > 0.01 * largest, "the images hardly matter"
        first, second = logits.topk(2).values.T
        if (first - second).min() > 1e-3 * largest:
            return channels_last(images), logits
    raise AssertionError("no images whose first two classes are far enough apart")


def training_step(model, batch, *size):
    model = model.double().train()
    images, labels = torch.randn(batch, 3, *size, dtype=torch.double), torch.randint(0, 10, (batch,))
    outputs = model(images)
    outputs = list(outputs) if isinstance(outputs, tuple) else [outputs]
    loss = sum(F.cross_entropy(logits, labels) * (1 if i == 0 else 0.3) for i, logits in enumerate(outputs))
    loss.backward()
    return {"x": channels_last(images), "labels": labels, "loss": loss,
            **{"grad." + name: p.grad for name, p in model.named_parameters()},
            **{"after." + name: b for name, b in model.named_buffers()}}


def check_back(name, folder):
    model = MODELS[name][0]()
    model.load_state_dict(read_safetensors(folder / "back.safetensors"), strict=True)
    cases = read_safetensors(folder / "cases.safetensors")
    images, expected = cases["x0"].permute(0, 3, 1, 2).contiguous(), cases["y0"]  # in another order PyTorch rounds otherwise
    with torch.no_grad():
        logits = model.to(images.dtype).eval()(images)
    assert (logits - expected).abs().max() <= 1e-5 * expected.abs().max(), f"{name}: other logits"


def main(name, folder):
    folder.mkdir()
    make, sizes = MODELS[name]
    torch.manual_seed(2026)
    model = make()
    small = (32, 32) if sizes is CIFAR else (64, 80)
    enliven(model, sizes[0][1:] if sizes is LARGE else small)
    (folder / "names.txt").write_text(names(model))
    write_safetensors(folder / "weights.safetensors", model.state_dict())
    dtype = torch.double if is_chaotic(model, sizes[1][1:]) else torch.float
    cases = {}
    for i, size in enumerate(sizes):
        cases[f"x{i}"], cases[f"y{i}"] = case(model, dtype, *size)
    write_safetensors(folder / "cases.safetensors", cases)
    if name in STEPS:
        size = (2, 299, 299) if name == "inception_v3" else (3, *small)  # the head has no use for smaller ones
        write_safetensors(folder / "step.safetensors", training_step(model, *size))


if __name__ == "__main__":
    if sys.argv[1:] == ["names"]:
        for name, (make, _) in MODELS.items():
            model = make()
            print(name, sum(p.numel() for p in model.parameters()), f"{fnv1a(names(model)):016x}")
    elif len(sys.argv) > 3 and sys.argv[1] == "back" and MODELS.keys() >= set(sys.argv[3:]):
        for name in sys.argv[3:]:
            check_back(name, pathlib.Path(sys.argv[2]) / name)
    elif len(sys.argv) > 2 and MODELS.keys() >= set(sys.argv[2:]):
        for name in sys.argv[2:]:
            main(name, pathlib.Path(sys.argv[1]) / name)
    else:
        sys.exit(__doc__)
