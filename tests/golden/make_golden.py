#!/usr/bin/python3
"""Makes the golden files beside it: what PyTorch computes, in double, for the layers and losses of residua.

    /usr/bin/python3 tests/golden/make_golden.py

make_golden_optim.py makes that of optimizers and schedules.

Inputs are drawn in float, so that a test in float and one in double start from the same numbers. Images are computed
channels-first, as PyTorch has them, and written channels-last, as residua has them: images (N, H, W, C), weights of
convolutions (K, R, S, C / groups), weights of LayerNorm({H, W, C}) (H, W, C).

A file is a sequence of tensors: a line `name type sizes…`, then the numbers, little-endian, row by row. A case is the
tensors whose names begin with it:

    case:x, case:y, case:dy, case:dx       a layer's input and output, and the gradients of sum(y * dy) by them
    case:weight, case:weight.grad          each parameter and its gradient, by PyTorch's names
    case:running_mean, ….after             each buffer before and after the step
"""
import math
import pathlib

import torch
from torch import nn
from torch.nn import functional as F

torch.set_default_dtype(torch.double)
torch.set_num_threads(1)
generator = torch.Generator().manual_seed(2026)


def in_float(tensor):
    """The nearest numbers that float holds exactly."""
    return tensor.detach().float().double()


def normal(*shape):
    return in_float(torch.randn(shape, generator=generator))


def uniform(*shape):
    return in_float(torch.rand(shape, generator=generator))


def integers(low, high, *shape):
    return torch.randint(low, high, shape, generator=generator)


class File:
    """A golden file that is being written."""

    def __init__(self, name):
        self.out = open(pathlib.Path(__file__).with_name(name + ".golden"), "wb")

    def add(self, name, tensor):
        tensor = torch.as_tensor(tensor).detach().double().contiguous()
        exact = torch.equal(tensor.float().double().nan_to_num(), tensor.nan_to_num())
        kind, numbers = ("float32", tensor.float()) if exact else ("float64", tensor)
        self.out.write(" ".join([name, kind, *map(str, tensor.shape)]).encode() + b"\n")
        self.out.write(numbers.numpy().tobytes())


def channels_last(tensor):
    return tensor.permute(0, 2, 3, 1) if tensor.dim() == 4 else tensor


def parameter_layout(tensor):
    return tensor.permute(1, 2, 0) if tensor.dim() == 3 else channels_last(tensor)


def draw(module):
    """Gives a module parameters and running statistics unlike those it starts with."""
    state = [*module.named_parameters(), *module.named_buffers()]
    for name, tensor in state:
        if name.endswith("num_batches_tracked"):
            continue
        if name.endswith(("running_mean", "bias")):
            value = normal(*tensor.shape) / 2
        elif tensor.dim() in (2, 4):
            value = normal(*tensor.shape) * tensor[0].numel() ** -0.5
        else:
            value = uniform(*tensor.shape) + 0.5
        with torch.no_grad():
            tensor.copy_(in_float(value))
    return module


def record(file, case, module, x, call=None, again=False, image=True, condition=None):
    """One forward and backward. `again`: a further step of the module as it stands."""
    activation, parameter = (channels_last, parameter_layout) if image else (lambda t: t, lambda t: t)
    if not again:
        draw(module)
        for name, p in [*module.named_parameters(), *module.named_buffers()]:
            file.add(f"{case}:{name}", parameter(p))
    module.zero_grad()
    inputs = {"x": x} if condition is None else {"x": x, "condition": condition}
    inputs = {name: in_float(tensor).requires_grad_() for name, tensor in inputs.items()}
    outputs = (call or module)(*inputs.values())
    outputs = dict(zip(["y", "gate"], outputs if isinstance(outputs, tuple) else [outputs]))
    gradients = {name: normal(*tensor.shape) for name, tensor in outputs.items()}
    torch.autograd.backward([*outputs.values()], [*gradients.values()])

    for name, tensor in [*inputs.items(), *outputs.items()]:
        file.add(f"{case}:{name}", activation(tensor))
        file.add(f"{case}:d{name}", activation(tensor.grad if name in inputs else gradients[name]))
    for name, p in module.named_parameters():
        file.add(f"{case}:{name}.grad", parameter(p.grad))
    for name, b in module.named_buffers():
        file.add(f"{case}:{name}.after", b)


# --- layers -----------------------------------------------------------------------------------------------------------


def convolution():
    narrow, wide = File("convolution"), File("wide_convolution")
    for case, x, channels, kernel, options in [
        ("first_layer", (2, 3, 9, 7), 16, 3, dict(padding=1, bias=False)),
        ("3x3", (2, 4, 6, 5), 5, 3, dict()),
        ("3x3_padded", (2, 4, 5, 9), 6, 3, dict(padding=1)),
        ("3x3_16_to_64", (1, 16, 7, 5), 64, 3, dict(padding=1, bias=False)),
        ("3x3_64_to_8", (1, 64, 5, 7), 8, 3, dict(padding=1, bias=False)),
        ("3x3_stride_2", (2, 8, 9, 7), 16, 3, dict(stride=2, padding=1, bias=False)),
        ("1x1", (2, 5, 4, 3), 7, 1, dict()),
        ("1x1_64_to_64", (1, 64, 3, 5), 64, 1, dict(bias=False)),
        ("1x1_stride_2", (2, 16, 7, 6), 32, 1, dict(stride=2, bias=False)),
        ("1x1_padded", (1, 3, 2, 4), 5, 1, dict(padding=1)),
        ("1x5", (2, 3, 4, 8), 4, (1, 5), dict(padding=(0, 2))),
        ("4x1", (2, 3, 8, 3), 4, (4, 1), dict()),
        ("2x3", (1, 3, 5, 6), 2, (2, 3), dict(stride=(2, 1), padding=(1, 2))),
        ("5x5", (2, 2, 7, 6), 3, 5, dict(padding=2)),
        ("7x7_stride_2", (2, 3, 13, 11), 8, 7, dict(stride=2, padding=3, bias=False)),
        ("stride_beyond_kernel", (2, 3, 10, 8), 4, 2, dict(stride=(4, 3))),
        ("dilated", (2, 3, 9, 8), 4, 3, dict(padding=2, dilation=2)),
        ("dilated_pair", (2, 3, 9, 11), 4, 3, dict(stride=(2, 1), padding=(1, 3), dilation=(2, 3))),
        ("padding_beyond_half", (2, 3, 4, 5), 4, 3, dict(padding=3)),
        ("padding_beyond_half_pair", (1, 16, 3, 2), 5, 3, dict(padding=(2, 4))),
        ("groups", (2, 6, 5, 6), 9, 3, dict(padding=1, groups=3)),
        ("groups_of_16", (1, 32, 5, 3), 32, 3, dict(padding=1, groups=2, bias=False)),
        ("groups_1x1_stride_2", (2, 8, 5, 4), 12, 1, dict(stride=2, groups=4)),
        ("depthwise", (2, 7, 6, 5), 7, 3, dict(padding=1, groups=7)),
        ("depthwise_stride_2", (2, 16, 7, 9), 16, 5, dict(stride=2, padding=2, groups=16, bias=False)),
        ("depthwise_multiplier", (2, 4, 5, 6), 12, 3, dict(stride=(1, 2), padding=1, dilation=(2, 1), groups=4)),
        ("whole_input", (2, 5, 4, 3), 6, (4, 3), dict()),
        ("one_pixel", (1, 3, 1, 1), 4, 1, dict()),
        ("one_pixel_padded", (1, 16, 1, 1), 7, 3, dict(padding=1)),
        ("one_pixel_output", (1, 2, 3, 3), 3, 3, dict(stride=2)),
        ("one_channel", (1, 1, 6, 4), 1, 3, dict(padding=1)),
        ("one_row", (1, 4, 1, 9), 5, 3, dict(padding=1)),
    ]:
        file = wide if x[1] * channels >= 256 else narrow
        record(file, "conv2d/" + case, nn.Conv2d(x[1], channels, kernel, **options), normal(*x))

    for case, x, features, bias in [
        ("rank_2", (5, 7), 4, True),
        ("rank_2_no_bias", (3, 64), 10, False),
        ("rank_3", (2, 5, 6), 9, True),
        ("rank_3_no_bias", (2, 3, 5), 1, False),
        ("one_row", (1, 13), 17, True),
        ("one_number", (1, 1), 1, True),
    ]:
        record(narrow, "linear/" + case, nn.Linear(x[-1], features, bias=bias), normal(*x))


class RMSNorm(nn.Module):
    """x / sqrt(mean(x²) + eps) · weight over the last axes (Zhang, Sennrich 2019); PyTorch has it from 2.4 on."""

    def __init__(self, shape, eps=None, elementwise_affine=True):
        super().__init__()
        self.axes, self.eps = tuple(range(-len(shape), 0)), torch.finfo(torch.double).eps if eps is None else eps
        self.weight = nn.Parameter(torch.ones(shape)) if elementwise_affine else None

    def forward(self, x):
        y = x / torch.sqrt(x.square().mean(self.axes, keepdim=True) + self.eps)
        return y if self.weight is None else y * self.weight


class Modulated(nn.Module):
    """norm(x) · (1 + scale) + shift, both linear maps of a condition; adaLN-Zero's third part is the gate."""

    def __init__(self, features, condition_features, gate=False, eps=1e-5):
        super().__init__()
        self.modulation = nn.Linear(condition_features, (3 if gate else 2) * features)
        self.parts, self.eps = 3 if gate else 2, eps

    def forward(self, x, condition):
        shift, scale, *gate = self.modulation(condition).chunk(self.parts, dim=1)
        shift, scale = (t.view(len(x), *[1] * (x.dim() - 2), -1) for t in (shift, scale))
        return (F.layer_norm(x, x.shape[-1:], eps=self.eps) * (1 + scale) + shift, *gate)


class Dynamic(nn.Module):
    """norm(x) · gamma(a) + beta(a), a the mean over a sample's positions of tanh(summary(x)) (Kim et al. 2017)."""

    def __init__(self, features, summary_features):
        super().__init__()
        self.summary = nn.Linear(features, summary_features)
        self.gamma, self.beta = nn.Linear(summary_features, features), nn.Linear(summary_features, features)

    def forward(self, x):
        positions = tuple(range(1, x.dim() - 1))
        a = torch.tanh(self.summary(x))
        a = a.mean(positions, keepdim=True) if positions else a
        return F.layer_norm(x, x.shape[-1:]) * self.gamma(a) + self.beta(a)


def offset(*shape):
    """Inputs whose mean is not zero and whose deviation is not one, as norms meet them."""
    return normal(*shape) * 1.5 + 0.75


def normalisation():
    file = File("normalisation")

    def batch_norm(case, x, evaluate=False, steps=1, **options):
        norm = (nn.BatchNorm2d if len(x) == 4 else nn.BatchNorm1d)(x[1], **options).train(not evaluate)
        for step in range(steps):
            record(file, f"batch_norm/{case}" + f"/step_{step + 1}" * (steps > 1), norm, offset(*x), again=step > 0)

    batch_norm("train", (3, 5, 4, 3), steps=2)
    batch_norm("train_features", (7, 6), steps=2)
    batch_norm("evaluate", (2, 5, 3, 4), evaluate=True)
    batch_norm("evaluate_features", (1, 6), evaluate=True)
    batch_norm("evaluate_one_pixel", (1, 3, 1, 1), evaluate=True)
    batch_norm("options", (2, 4, 3, 5), steps=2, eps=1e-3, momentum=0.3)
    batch_norm("cumulative", (2, 4, 3, 3), steps=3, momentum=None)
    batch_norm("not_affine", (2, 4, 3, 3), steps=2, affine=False)
    batch_norm("no_statistics", (2, 4, 3, 3), track_running_stats=False)
    batch_norm("no_statistics_evaluate", (2, 4, 3, 3), evaluate=True, track_running_stats=False)
    batch_norm("neither", (2, 4, 3, 3), affine=False, track_running_stats=False)
    batch_norm("batch_1", (1, 16, 5, 3))
    batch_norm("two_values", (2, 3, 1, 1), eps=0.5)  # with a small eps the gradient is what rounding leaves of 0
    norm = nn.BatchNorm1d(5)
    record(file, "batch_norm/sequence", norm, offset(2, 4, 5), lambda x: norm(x.transpose(1, 2)).transpose(1, 2))

    for case, x, axes, options in [
        ("features", (5, 7), 1, dict()),
        ("sequence", (2, 3, 8), 1, dict()),
        ("pixel", (2, 3, 4, 5), 1, dict()),
        ("last_two", (2, 3, 4, 5), 2, dict()),
        ("eps", (3, 4), 1, dict(eps=0.5)),
        ("not_affine", (2, 3, 6), 1, dict(elementwise_affine=False)),
        ("one_row", (1, 64), 1, dict()),
        ("one_feature", (3, 1), 1, dict(eps=0.25)),  # with other eps PyTorch leaves rounding errors where 0 should be
    ]:
        record(file, "layer_norm/" + case, nn.LayerNorm(x[-axes:], **options), offset(*x), image=False)
    record(file, "layer_norm/image", nn.LayerNorm((4, 3, 5)), offset(2, 4, 3, 5))
    scaled = nn.LayerNorm((6,))
    del scaled.bias
    scaled.bias = None  # PyTorch has bias=False from 2.1 on
    record(file, "layer_norm/no_bias", scaled, offset(2, 3, 6), image=False)

    for case, x, groups, options in [
        ("image", (2, 6, 3, 4), 3, dict()),
        ("one_group", (2, 4, 3, 2), 1, dict()),
        ("group_per_channel", (2, 4, 3, 2), 4, dict()),
        ("options", (1, 6, 2, 5), 2, dict(eps=1e-2, affine=False)),
        ("one_pixel", (1, 6, 1, 1), 2, dict()),
        ("features", (3, 8), 2, dict()),
    ]:
        record(file, "group_norm/" + case, nn.GroupNorm(groups, x[1], **options), offset(*x))
    groups = nn.GroupNorm(2, 6)
    record(file, "group_norm/sequence", groups, offset(2, 5, 6), lambda x: groups(x.transpose(1, 2)).transpose(1, 2))

    for case, x, evaluate, steps, options in [
        ("default", (2, 5, 3, 4), False, 1, dict()),
        ("affine", (2, 4, 5, 3), False, 1, dict(affine=True, eps=1e-3)),
        ("statistics", (3, 4, 3, 2), False, 2, dict(affine=True, track_running_stats=True, momentum=0.2)),
        ("statistics_evaluate", (2, 4, 3, 2), True, 1, dict(track_running_stats=True)),
        ("evaluate", (2, 4, 3, 2), True, 1, dict()),
        ("batch_1", (1, 16, 5, 3), False, 1, dict(affine=True, track_running_stats=True)),
    ]:
        norm = nn.InstanceNorm2d(x[1], **options).train(not evaluate)
        for step in range(steps):
            name = f"instance_norm/{case}" + f"/step_{step + 1}" * (steps > 1)
            record(file, name, norm, offset(*x), again=step > 0)

    for case, x, axes, options in [
        ("features", (5, 7), 1, dict()),
        ("pixel", (2, 3, 4, 5), 1, dict()),
        ("last_two", (2, 3, 4, 5), 2, dict(eps=1e-5)),
        ("eps", (3, 4), 1, dict(eps=0.5)),
        ("not_affine", (2, 3, 6), 1, dict(elementwise_affine=False)),
        ("one_feature", (3, 1), 1, dict(eps=0.25)),
    ]:
        record(file, "rms_norm/" + case, RMSNorm(x[-axes:], **options), offset(*x), image=False)

    for case, x, conditions, options in [
        ("condition/sequence", (2, 3, 6), 4, dict()),
        ("condition/image", (2, 3, 4, 5), 3, dict(eps=1e-2)),
        ("condition/one_position", (3, 7), 2, dict()),
        ("gate/sequence", (3, 2, 6), 4, dict(gate=True)),
        ("gate/image", (1, 3, 2, 5), 1, dict(gate=True)),
    ]:
        record(file, "adaptive_layer_norm/" + case, Modulated(x[-1], conditions, **options), offset(*x), image=False,
               condition=normal(x[0], conditions))
    for case, x, summary in [("sequence", (2, 3, 6), 4), ("image", (2, 3, 4, 5), 3), ("one_position", (3, 7), 2)]:
        record(file, "adaptive_layer_norm/summary/" + case, Dynamic(x[-1], summary), offset(*x), image=False)
    record(file, "adaptive_layer_norm/plain", nn.LayerNorm(6), offset(2, 3, 6), image=False)


def activation():
    file = File("activation")
    edges = torch.tensor([0.0, -0.0, 1e-4, -1e-4, 6.0, -6.0, 30.0, -30.0, 200.0, -200.0])
    nan = float("nan")
    for case, module in [
        ("relu", nn.ReLU()),
        ("leaky_relu", nn.LeakyReLU()),
        ("leaky_relu_slope", nn.LeakyReLU(0.25)),
        ("gelu", nn.GELU()),
        ("gelu_tanh", nn.GELU(approximate="tanh")),
        ("silu", nn.SiLU()),
        ("sigmoid", nn.Sigmoid()),
        ("tanh", nn.Tanh()),
    ]:
        record(file, case + "/image", module, normal(2, 3, 5, 7) * 2)
        record(file, case + "/one_number", module, uniform(1, 1))
        record(file, case + "/edges", module, torch.cat([edges, normal(9) * 8]).view(1, 19))
        record(file, case + "/nan", module, torch.tensor([[1.0, nan, -2.0], [nan, 0.5, nan]]))

    for case, x, dim in [
        ("features", (4, 7), -1),
        ("rows", (4, 7), 0),
        ("sequence", (2, 3, 5), 2),
        ("sequence_middle", (2, 3, 5), 1),
        ("first", (3, 2, 4, 5), 0),
        ("last_but_one", (2, 3, 4, 5), -2),
        ("one_number", (3, 1), -1),
    ]:
        record(file, "softmax/" + case, nn.Softmax(dim), normal(*x) * 3, image=False)
    record(file, "softmax/large", nn.Softmax(-1), normal(3, 5) * 2 + 1000)
    masked = normal(3, 5)
    masked[0, 1] = masked[2, 0] = masked[2, 4] = -math.inf
    record(file, "softmax/masked", nn.Softmax(-1), masked)
    record(file, "softmax/nan", nn.Softmax(-1), torch.tensor([[1.0, nan, -2.0], [0.25, 0.5, 0.75]]))


def pooling():
    file = File("pooling")
    for case, x, kernel, options in [
        ("2x2", (2, 3, 6, 4), 2, dict()),
        ("odd_input", (2, 3, 7, 5), 2, dict()),
        ("3x3_stride_2", (2, 5, 9, 7), 3, dict(stride=2, padding=1)),
        ("pairs", (2, 3, 8, 7), (3, 2), dict(stride=(2, 1), padding=(1, 0))),
        ("dilated", (2, 3, 8, 9), 3, dict(stride=1, padding=1, dilation=2)),
        ("dilated_pair", (1, 3, 9, 8), (2, 3), dict(stride=2, dilation=(3, 2))),
        ("ceil_mode", (2, 3, 7, 6), 3, dict(stride=2, ceil_mode=True)),
        ("ceil_mode_padded", (2, 3, 6, 5), 2, dict(stride=3, padding=1, ceil_mode=True)),
        ("whole_input", (1, 4, 3, 5), (3, 5), dict()),
        ("one_pixel", (1, 3, 1, 1), 1, dict()),
        ("one_pixel_padded", (1, 3, 1, 1), 3, dict(padding=1)),
    ]:
        record(file, "max_pool2d/" + case, nn.MaxPool2d(kernel, **options), normal(*x))
    negative = -uniform(2, 3, 5, 5) - 1
    record(file, "max_pool2d/negative", nn.MaxPool2d(3, 2, padding=1), negative)
    ties = integers(0, 3, 2, 3, 7, 6).double()
    record(file, "max_pool2d/ties", nn.MaxPool2d(3, 2), ties)
    nan = normal(2, 3, 6, 7)
    nan[0, 1, 2, 3] = nan[1, 0, 0, 0] = nan[1, 2, 5, 6] = float("nan")
    record(file, "max_pool2d/nan", nn.MaxPool2d(3, 2, padding=1), nan)
    record(file, "avg_pool2d/nan", nn.AvgPool2d(3, 2, padding=1), nan)

    for case, x, kernel, options in [
        ("2x2", (2, 3, 6, 4), 2, dict()),
        ("odd_input", (2, 3, 7, 5), 2, dict()),
        ("padded", (2, 5, 7, 6), 3, dict(stride=2, padding=1)),
        ("padding_not_counted", (2, 3, 7, 6), 3, dict(stride=2, padding=1, count_include_pad=False)),
        ("pairs", (2, 3, 8, 7), (3, 2), dict(stride=(1, 2), padding=(0, 1))),
        ("ceil_mode", (2, 3, 6, 8), 3, dict(stride=2, ceil_mode=True)),
        ("ceil_mode_padded", (2, 3, 6, 8), 3, dict(stride=2, padding=1, ceil_mode=True)),
        ("ceil_mode_padding_not_counted", (2, 3, 6, 8), 3, dict(stride=2, padding=1, ceil_mode=True,
                                                               count_include_pad=False)),
        ("divisor", (2, 3, 6, 5), 2, dict(divisor_override=3)),
        ("divisor_padded", (2, 3, 6, 5), 3, dict(stride=2, padding=1, ceil_mode=True, divisor_override=5)),
        ("whole_input", (1, 4, 3, 5), (3, 5), dict()),
        ("one_pixel", (1, 3, 1, 1), 1, dict()),
    ]:
        record(file, "avg_pool2d/" + case, nn.AvgPool2d(kernel, **options), normal(*x))

    for case, x, size in [
        ("divides", (2, 3, 6, 4), (3, 2)),
        ("does_not_divide", (2, 3, 7, 5), (3, 4)),
        ("square", (2, 3, 7, 8), 5),
        ("larger_than_input", (1, 3, 2, 3), (5, 4)),
        ("one", (2, 3, 5, 4), 1),
        ("one_pixel", (1, 3, 1, 1), 1),
    ]:
        record(file, "adaptive_avg_pool2d/" + case, nn.AdaptiveAvgPool2d(size), normal(*x))

    pool = nn.AdaptiveAvgPool2d(1)
    for case, x in [("image", (2, 5, 7, 3)), ("one_pixel", (1, 3, 1, 1)), ("one_row", (1, 16, 1, 9))]:
        record(file, "global_avg_pool2d/" + case, pool, normal(*x), lambda x: pool(x).flatten(1))

    record(file, "flatten/image", nn.Flatten(), normal(2, 3, 4, 5))
    record(file, "flatten/one_pixel", nn.Flatten(), normal(1, 3, 1, 1))
    record(file, "flatten/sequence", nn.Flatten(), normal(2, 3, 5))
    record(file, "flatten/leading_axes", nn.Flatten(0, 1), normal(2, 3, 5))


# --- losses -----------------------------------------------------------------------------------------------------------


def loss():
    file = File("loss")

    def cross_entropy(case, logits, labels, **options):
        logits = in_float(logits).requires_grad_()
        value = F.cross_entropy(logits, labels, **options)
        value.backward()
        for name, tensor in [("x", logits), ("labels", labels), ("value", value), ("dx", logits.grad)]:
            file.add(f"cross_entropy/{case}:{name}", tensor)
        if "weight" in options:
            file.add(f"cross_entropy/{case}:weight", options["weight"])

    labels = torch.tensor([0, 3, 1, 4, 3, 2])
    some = torch.tensor([0, -100, 1, 4, -100, 2])
    ones = torch.tensor([1, 3, 1, 4, 3, 2])
    weight = uniform(5) + 0.25
    cross_entropy("mean", normal(6, 5) * 2, labels)
    cross_entropy("sum", normal(6, 5) * 2, labels, reduction="sum")
    cross_entropy("smoothing", normal(6, 5) * 2, labels, label_smoothing=0.1)
    cross_entropy("smoothing_sum", normal(6, 5) * 2, labels, label_smoothing=0.3, reduction="sum")
    cross_entropy("ignored", normal(6, 5) * 2, some)
    cross_entropy("ignored_sum", normal(6, 5) * 2, some, reduction="sum")
    cross_entropy("ignored_1", normal(6, 5) * 2, ones, ignore_index=1)
    cross_entropy("weight", normal(6, 5) * 2, labels, weight=weight)
    cross_entropy("weight_sum", normal(6, 5) * 2, labels, weight=weight, reduction="sum")
    cross_entropy("all", normal(6, 5) * 2, some, weight=weight, label_smoothing=0.2)
    cross_entropy("all_sum", normal(6, 5) * 2, some, weight=weight, label_smoothing=0.2, reduction="sum")
    cross_entropy("all_ignored", normal(2, 3), torch.tensor([-100, -100]))
    cross_entropy("all_ignored_sum", normal(2, 3), torch.tensor([-100, -100]), reduction="sum")
    cross_entropy("large", normal(6, 5) * 300, labels)
    cross_entropy("one_row", normal(1, 3), torch.tensor([2]))
    cross_entropy("one_class", normal(2, 1), torch.tensor([0, 0]))

    def record_loss(case, function, x, target, **options):
        x, target = in_float(x).requires_grad_(), in_float(target)
        value = function(x, target, **options)
        value.backward()
        tensors = {name: option for name, option in options.items() if torch.is_tensor(option)}
        for name, tensor in {"x": x, "target": target, "value": value, "dx": x.grad, **tensors}.items():
            file.add(f"{case}:{name}", tensor)

    nan, infinity = float("nan"), math.inf
    for case, options in [
        ("mean", dict()),
        ("sum", dict(reduction="sum")),
        ("smoothing", dict(label_smoothing=0.1)),
        ("weight", dict(weight=weight)),
        ("all", dict(weight=weight, label_smoothing=0.3)),
        ("all_sum", dict(weight=weight, label_smoothing=0.3, reduction="sum")),
    ]:
        record_loss("probabilities/" + case, F.cross_entropy, normal(6, 5) * 2, normal(6, 5).softmax(1), **options)
    record_loss("probabilities/any_sum", F.cross_entropy, normal(6, 5) * 2, normal(6, 5), weight=weight)
    record_loss("probabilities/large", F.cross_entropy, normal(6, 5) * 300, normal(6, 5).softmax(1))
    record_loss("probabilities/nan", F.cross_entropy, torch.tensor([[1.0, nan], [0.5, 2.0]]), torch.eye(2))

    wrong = (torch.tensor([nan, 0.5, infinity, -infinity, 0.0]), torch.tensor([1.0, nan, 0.5, 0.25, 0.0]))
    record_loss("mse_loss/mean", F.mse_loss, normal(3, 4), normal(3, 4))
    record_loss("mse_loss/sum", F.mse_loss, normal(2, 3, 4, 2), normal(2, 3, 4, 2), reduction="sum")
    record_loss("mse_loss/nan", F.mse_loss, *wrong)
    for case, options in [
        ("mean", dict()),
        ("sum", dict(reduction="sum")),
        ("beta", dict(beta=0.25)),
        ("beta_sum", dict(beta=2.0, reduction="sum")),
        ("l1", dict(beta=0.0)),
        ("l1_sum", dict(beta=0.0, reduction="sum")),
    ]:
        record_loss("smooth_l1_loss/" + case, F.smooth_l1_loss, normal(6, 5), normal(6, 5), **options)
    record_loss("smooth_l1_loss/nan", F.smooth_l1_loss, *wrong)
    record_loss("smooth_l1_loss/at_beta", F.smooth_l1_loss, torch.tensor([1.0, -1.0, 0.0]), torch.zeros(3))

    binary = F.binary_cross_entropy_with_logits
    elements, pos_weight = uniform(6, 5) * 2, uniform(5) * 3
    for case, options in [
        ("mean", dict()),
        ("sum", dict(reduction="sum")),
        ("weight", dict(weight=elements)),
        ("feature_weight", dict(weight=weight)),
        ("pos_weight", dict(pos_weight=pos_weight)),
        ("all", dict(weight=elements, pos_weight=pos_weight)),
        ("all_sum", dict(weight=weight, pos_weight=pos_weight, reduction="sum")),
    ]:
        record_loss("bce_with_logits/" + case, binary, normal(6, 5) * 3, uniform(6, 5), **options)
    record_loss("bce_with_logits/image", binary, normal(2, 3, 4, 5), integers(0, 2, 2, 3, 4, 5), pos_weight=pos_weight)
    record_loss("bce_with_logits/large", binary, normal(6, 5) * 300, integers(0, 2, 6, 5))
    record_loss("bce_with_logits/nan", binary, *wrong)


# --- residual blocks --------------------------------------------------------------------------------------------------


class OptionA(nn.Module):
    """Every second pixel, and zeros for the channels there are too few of, half of them on each side."""

    def __init__(self, in_channels, out_channels, stride):
        super().__init__()
        zeros = out_channels - in_channels
        self.front, self.behind, self.stride = zeros // 2, zeros - zeros // 2, stride

    def forward(self, x):
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.front, self.behind))


class Block(nn.Module):
    """The residual blocks of He et al.: "post" of 2015, "pre" of 2016, and "plain", which is "pre" without activations.

    A basic block has two 3×3 convolutions, a bottleneck 1×1, 3×3 and 1×1.
    """

    def __init__(self, in_channels, out_channels, stride=1, order="post", shortcut="projection", bottleneck=False):
        super().__init__()
        width = out_channels // 4
        convolutions = [(in_channels, out_channels, 3, stride), (out_channels, out_channels, 3, 1)]
        if bottleneck:
            convolutions = [(in_channels, width, 1, 1), (width, width, 3, stride), (width, out_channels, 1, 1)]
        self.depth, self.order = len(convolutions), order
        for i, (c_in, c_out, kernel, step) in enumerate(convolutions, 1):
            self.add_module(f"conv{i}", nn.Conv2d(c_in, c_out, kernel, step, padding=kernel // 2, bias=False))
            self.add_module(f"bn{i}", nn.BatchNorm2d(c_out if order == "post" else c_in))

        reshapes = stride != 1 or in_channels != out_channels
        projects = reshapes and shortcut == "projection"
        self.forks_activated = projects and order == "pre"
        self.shortcut = nn.Sequential()
        if projects:
            self.shortcut.append(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False))
            if not self.forks_activated:
                self.shortcut.append(nn.BatchNorm2d(out_channels))
        elif reshapes:
            self.shortcut = OptionA(in_channels, out_channels, stride)

    def forward(self, x):
        conv, norm = ([getattr(self, f"{name}{i + 1}") for i in range(self.depth)] for name in ("conv", "bn"))
        if self.order == "post":
            y = x
            for i in range(self.depth - 1):
                y = F.relu(norm[i](conv[i](y)))
            return F.relu(norm[-1](conv[-1](y)) + self.shortcut(x))

        act = F.relu if self.order == "pre" else nn.Identity()
        y = act(norm[0](x))
        s = self.shortcut(y if self.forks_activated else x)
        for i in range(self.depth - 1):
            y = act(norm[i + 1](conv[i](y)))
        return conv[-1](y) + s


def block():
    file = File("block")
    for order in ["post", "pre", "plain"]:
        for case, x, channels, options in [
            ("identity", (3, 6, 5, 7), 6, dict()),
            ("projection", (3, 4, 7, 5), 8, dict(stride=2)),
            ("projection_stride_1", (2, 4, 3, 5), 6, dict()),
            ("subsampled", (3, 4, 7, 6), 8, dict(stride=2, shortcut="subsample")),
            ("bottleneck", (3, 8, 5, 4), 8, dict(bottleneck=True)),
            ("bottleneck_projection", (3, 6, 7, 6), 16, dict(stride=2, bottleneck=True)),
        ]:
            # In training the gradient of a plain bottleneck's first bias is 0: the norm after the 1×1 undoes it.
            evaluate = order == "plain" and "bottleneck" in options
            module = Block(x[1], channels, order=order, **options).train(not evaluate)
            record(file, f"{order}/{case}", module, normal(*x))
    record(file, "evaluate", Block(4, 8, 2).eval(), normal(1, 4, 5, 6))


# --- training ---------------------------------------------------------------------------------------------------------


class SmallNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.block0 = Block(8, 8)
        self.block1 = Block(8, 16, stride=2)
        self.fc = nn.Linear(16, 10)

    def forward(self, x):
        x = self.block1(self.block0(F.relu(self.bn1(self.conv1(x)))))
        return self.fc(x.mean((2, 3)))


def training():
    """The losses of a hundred steps of SGD over four batches of eight images, in turn."""
    file = File("training")
    images, labels = normal(4, 8, 3, 16, 16), integers(0, 10, 4, 8)
    file.add("images", images.permute(0, 1, 3, 4, 2))
    file.add("labels", labels)
    net = draw(SmallNet())
    for norm in [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]:
        norm.reset_running_stats()
    for name, p in net.named_parameters():
        file.add("start:" + name, parameter_layout(p))
    sgd = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    losses = []
    for step in range(100):
        sgd.zero_grad()
        value = F.cross_entropy(net(images[step % 4]), labels[step % 4])
        value.backward()
        sgd.step()
        losses.append(value.detach())
    file.add("losses", torch.stack(losses))
    for name, b in net.named_buffers():
        file.add("end:" + name, b)


if __name__ == "__main__":
    for make in [convolution, normalisation, activation, pooling, loss, block, training]:
        generator.manual_seed(2026)  # so that a change in one file changes no other
        make()
