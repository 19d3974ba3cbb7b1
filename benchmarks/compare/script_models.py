#!/usr/bin/python3
"""Writes the networks that compare and compare_memory run on libtorch's side as TorchScript files into a folder."""

import pathlib
import sys

import torch
import torchvision
from torch import nn
from torch.nn import functional as F


class Subsample(nn.Module):
    """Option A: every second pixel, and zeros for the channels that are new."""

    def __init__(self, new_channels: int):
        super().__init__()
        self.pad = new_channels // 2

    def forward(self, x):
        return F.pad(x[:, :, ::2, ::2], [0, 0, 0, 0, self.pad, self.pad])


class BasicBlock(nn.Module):
    def __init__(self, in_channels: int, channels: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Identity() if stride == 1 else Subsample(channels - in_channels)

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class CifarResNet(nn.Module):
    """He et al. 2015, section 4.2: 6n + 2 layers, with the names of akamaster's pytorch_resnet_cifar10."""

    def __init__(self, depth: int):
        super().__init__()
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self.stage(16, 16, blocks, 1)
        self.layer2 = self.stage(16, 32, blocks, 2)
        self.layer3 = self.stage(32, 64, blocks, 2)
        self.linear = nn.Linear(64, 10)

    @staticmethod
    def stage(in_channels, channels, blocks, stride):
        first = BasicBlock(in_channels, channels, stride)
        return nn.Sequential(first, *(BasicBlock(channels, channels, 1) for _ in range(blocks - 1)))

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean([2, 3]))


NETWORKS = {
    "cifar_resnet20": lambda: CifarResNet(20),
    "cifar_resnet56": lambda: CifarResNet(56),
    "resnet18": torchvision.models.resnet18,
    "resnet50": torchvision.models.resnet50,
    # Blocks weigh 1 at the end, not 1e-6, so that what they compute shows in the outputs that are compared.
    "convnext_tiny": lambda: torchvision.models.convnext_tiny(stochastic_depth_prob=0.0, layer_scale=1.0),
}

if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} FOLDER")
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in NETWORKS.items():
        torch.manual_seed(1)
        torch.jit.script(make()).save(str(folder / f"{name}.pt"))
        print(folder / f"{name}.pt")
