#!/usr/bin/python3
"""Makes transforms.golden beside it: what torchvision's transforms of images compute, given what they draw.

    /usr/bin/python3 tests/golden/make_golden_transforms.py

torchvision itself is not needed: its formulas (torchvision.transforms.functional on tensors) are written out below in
torch, in double. The file is as make_golden.py says. Images are written (H, W, C).
"""
import torch
from torch.nn import functional as F

from make_golden import File, generator, uniform


def rgb_to_grayscale(image):
    r, g, b = image
    return (0.2989 * r + 0.587 * g + 0.114 * b)[None]


def blend(image, other, factor):
    return (factor * image + (1 - factor) * other).clamp(0, 1)


def adjust_brightness(image, factor):
    return blend(image, torch.zeros_like(image), factor)


def adjust_contrast(image, factor):
    return blend(image, (rgb_to_grayscale(image) if len(image) == 3 else image).mean(), factor)


def adjust_saturation(image, factor):
    return blend(image, rgb_to_grayscale(image), factor) if len(image) == 3 else image


def rgb_to_hsv(image):
    r, g, b = image
    high, low = image.max(0).values, image.min(0).values
    range_ = high - low
    saturation = range_ / torch.where(high == low, torch.ones_like(high), high)
    divisor = torch.where(high == low, torch.ones_like(high), range_)
    rc, gc, bc = (high - r) / divisor, (high - g) / divisor, (high - b) / divisor
    hue = (high == r) * (bc - gc)
    hue = hue + ((high == g) & (high != r)) * (2 + rc - bc)
    hue = hue + ((high != g) & (high != r)) * (4 + gc - rc)
    return torch.fmod(hue / 6 + 1, 1), saturation, high


def hsv_to_rgb(h, s, v):
    i = torch.floor(h * 6)
    f = h * 6 - i
    i = i.long() % 6
    p = (v * (1 - s)).clamp(0, 1)
    q = (v * (1 - s * f)).clamp(0, 1)
    t = (v * (1 - s * (1 - f))).clamp(0, 1)
    choices = torch.stack([torch.stack(c) for c in [(v, q, p, p, t, v), (t, v, v, q, p, p), (p, p, t, v, v, q)]])
    return choices.gather(1, i.expand(3, 1, *i.shape))[:, 0]


def adjust_hue(image, factor):
    if len(image) == 1:
        return image
    h, s, v = rgb_to_hsv(image)
    return hsv_to_rgb((h + factor) % 1, s, v)


def gaussian_blur(image, kernel_size, sigma):
    def kernel(size):
        x = torch.linspace(-(size - 1) / 2, (size - 1) / 2, size)
        pdf = torch.exp(-0.5 * (x / sigma) ** 2)
        return pdf / pdf.sum()

    height, width = kernel_size
    weight = torch.outer(kernel(height), kernel(width)).expand(len(image), 1, height, width)
    padded = F.pad(image[None], [width // 2, width // 2, height // 2, height // 2], mode="reflect")
    return F.conv2d(padded, weight, groups=len(image))[0]


def transforms():
    file = File("transforms")

    def add(name, image, result):
        file.add(f"{name}:x", image.permute(1, 2, 0))
        file.add(f"{name}:y", result.permute(1, 2, 0))

    color, gray = uniform(3, 7, 5), uniform(1, 6, 4)
    # Beside the random pixels: greys, primary colors, two channels equal and largest.
    color[:, 0, :] = torch.tensor([[0, 0, 0], [1, 1, 1], [0.5, 0.5, 0.5], [1, 0, 0], [0, 1, 0]]).T
    color[:, 1, :] = torch.tensor([[0, 0, 1], [1, 1, 0], [0, 1, 1], [1, 0, 1], [0.5, 0.25, 0.5]]).T
    for kind, image in [("color", color), ("gray", gray)]:
        for factor in [0, 0.5, 1.75]:
            add(f"brightness_{kind}_{factor}", image, adjust_brightness(image, factor))
            add(f"contrast_{kind}_{factor}", image, adjust_contrast(image, factor))
            add(f"saturation_{kind}_{factor}", image, adjust_saturation(image, factor))
        for factor in [-0.5, -0.125, 0.0, 0.25]:
            add(f"hue_{kind}_{factor}", image, adjust_hue(image, factor))
    for kernel_size, sigma in [((3, 3), 0.75), ((5, 3), 2.0), ((1, 7), 0.25), ((11, 9), 1.5)]:
        name = f"blur_{kernel_size[0]}x{kernel_size[1]}_{sigma}"
        add(name, color, gaussian_blur(color, kernel_size, sigma))
    add("blur_3x5_1.0", gray, gaussian_blur(gray, (3, 5), 1.0))


if __name__ == "__main__":
    generator.manual_seed(2026)
    transforms()
