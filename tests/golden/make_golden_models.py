#!/usr/bin/python3
"""Makes models.golden beside it: what PyTorch computes, in double, for the blocks that models are made of.

    /usr/bin/python3 tests/golden/make_golden_models.py

Its format and layouts are make_golden.py's.
"""
import torch
from torch import nn

from make_golden import File, channels_last, draw, in_float, normal, parameter_layout, record


class Concat(nn.Module):
    """The branches' outputs, one after the other over the channels; a branch is called by its name, or flat."""

    def __init__(self, **branches):
        super().__init__()
        for name, branch in branches.items():
            self.add_module(name, branch)

    def forward(self, x):
        return torch.cat([branch(x) for branch in self.children()], 1)


class LayerScale(nn.Module):
    def __init__(self, channels, block):
        super().__init__()
        self.layer_scale = nn.Parameter(torch.ones(channels, 1, 1))
        self.block = block

    def forward(self, x):
        return self.layer_scale * self.block(x)


class Trunk(nn.Module):
    """A chain with a head behind its first layer and one behind its second."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        self.second = nn.Conv2d(4, 5, 1)
        self.head = nn.Conv2d(4, 2, 3)
        self.third = nn.Sequential(nn.Tanh(), nn.Conv2d(5, 3, 1))
        self.raw = nn.Identity()

    def forward(self, x):
        x = self.first(x)
        head = self.head(x)
        x = self.second(x)
        return self.third(x), head, self.raw(x)


def several_outputs(file, case, module, x):
    """As record, for outputs y, y1, y2."""
    draw(module)
    for name, p in [*module.named_parameters(), *module.named_buffers()]:
        file.add(f"{case}:{name}", parameter_layout(p))
    x = in_float(x).requires_grad_()
    outputs = module(x)
    gradients = [normal(*y.shape) for y in outputs]
    torch.autograd.backward(outputs, gradients)
    file.add(f"{case}:x", channels_last(x))
    file.add(f"{case}:dx", channels_last(x.grad))
    for i, (y, dy) in enumerate(zip(outputs, gradients)):
        file.add(f"{case}:y{i}", channels_last(y))
        file.add(f"{case}:dy{i}", channels_last(dy))
    for name, p in module.named_parameters():
        file.add(f"{case}:{name}.grad", parameter_layout(p.grad))
    for name, b in module.named_buffers():
        file.add(f"{case}:{name}.after", b)


if __name__ == "__main__":
    file = File("models")
    edges = torch.tensor([[0.0, -0.0, 1e-4, -1e-4, 6.0, 5.9999, 6.0001, -6.0, 200.0, -200.0]])
    record(file, "relu6/image", nn.ReLU6(), normal(2, 3, 5, 7) * 5)
    record(file, "relu6/edges", nn.ReLU6(), edges)
    record(file, "relu6/nan", nn.ReLU6(), torch.tensor([[1.0, float("nan"), -2.0, 9.0]]))
    record(file, "concat/one", Concat(branch=nn.Conv2d(3, 4, 1)), normal(2, 3, 4, 5))
    record(file, "concat/inception", Concat(
        branch1=nn.Conv2d(3, 4, 1),
        branch2=nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), nn.BatchNorm2d(2), nn.ReLU(), nn.Conv2d(2, 5, 3, padding=1)),
        branch3=nn.MaxPool2d(3, 1, 1)), normal(2, 3, 5, 6))
    record(file, "concat/dense", nn.Sequential(*[
        Concat(same=nn.Identity(), new=nn.Sequential(nn.BatchNorm2d(c), nn.ReLU(), nn.Conv2d(c, 2, 3, padding=1)))
        for c in (3, 5, 7)]), normal(2, 3, 4, 5))
    record(file, "concat/features", Concat(a=nn.Linear(4, 3), b=nn.Identity()), normal(5, 4))
    record(file, "layer_scale", LayerScale(4, nn.Conv2d(3, 4, 1)), normal(2, 3, 5, 4))
    several_outputs(file, "trunk", Trunk(), normal(2, 3, 5, 6))
