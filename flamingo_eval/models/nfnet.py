"""NFNet: a residual network without normalisation layers (Brock et al. 2021), Flamingo's vision encoder.

Shapes: N pictures, C channels, H x W grid, P = H * W positions, V width of the features.

A block reads x / (expected standard deviation of x) and adds alpha times its branch, so the variance grows by alpha^2
per block and is reset at each stage. Convolution weights are standardised (zero mean, unit variance a filter) and
scaled by a learned gain; activations carry the constant that keeps unit variance.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flamingo_eval.models.config import NFNetConfig
from flamingo_eval.models.layers import ACTIVATIONS

# 1 / standard deviation of act(z) for z ~ N(0, 1)
GAMMA = {"gelu": 1.7015043497085571, "relu": 1.7139588594436646, "silu": 1.7881293296813965}
STANDARDISE_EPS = 1e-5
ATTENTION_GAIN = 2.0  # squeeze-and-excite halves on average: sigmoid(0)


class StandardisedConv(nn.Conv2d):
    """A convolution with standardised weights and TensorFlow's "same" padding (ceil(H / stride) positions)."""

    def __init__(self, channels: int, width: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(channels, width, kernel, stride, groups=groups)
        self.gain = nn.Parameter(torch.ones(width))

    def standardised_weight(self) -> Tensor:
        """float[V, C / groups, k, k], each filter with mean 0 and variance gain^2 / fan-in"""
        fan_in = self.weight[0].numel()
        flat = self.weight.flatten(1)
        variance, mean = torch.var_mean(flat, dim=1, keepdim=True, correction=0)
        scale = self.gain[:, None] * fan_in**-0.5
        weight: Tensor = ((flat - mean) * torch.rsqrt(variance + STANDARDISE_EPS) * scale).view_as(self.weight)
        return weight

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, V, ceil(H / stride), ceil(W / stride)]"""
        kernel, stride = self.kernel_size[0], self.stride[0]
        down, right = (max((math.ceil(s / stride) - 1) * stride + kernel - s, 0) for s in x.shape[-2:])
        x = F.pad(x, (right // 2, right - right // 2, down // 2, down - down // 2))
        return F.conv2d(x, self.standardised_weight(), self.bias, self.stride, groups=self.groups)


class SqueezeExcite(nn.Module):
    """Scales every channel by a function of all channels' means (Hu et al. 2018)."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(width, inner)
        self.excite = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C, H, W]"""
        scale: Tensor = self.excite(F.relu(self.squeeze(x.mean(dim=(2, 3))))).sigmoid()
        return x * scale[:, :, None, None]


class Block(nn.Module):
    """A bottleneck: 1x1, two grouped 3x3, 1x1, squeeze-and-excite. `beta` is 1 / expected deviation of the input."""

    def __init__(self, config: NFNetConfig, channels: int, width: int, stride: int, beta: float) -> None:
        super().__init__()
        self.beta, self.alpha, self.stride = beta, config.alpha, stride
        self.act, self.gamma = ACTIVATIONS[config.activation], GAMMA[config.activation]
        groups = max(int(width * config.bottleneck) // config.group_width, 1)
        inner = groups * config.group_width
        self.shortcut = StandardisedConv(channels, width, 1) if stride > 1 or channels != width else None
        self.conv1 = StandardisedConv(channels, inner, 1)
        self.conv2 = StandardisedConv(inner, inner, 3, stride, groups)
        self.conv3 = StandardisedConv(inner, inner, 3, 1, groups)
        self.conv4 = StandardisedConv(inner, width, 1)
        self.attention = SqueezeExcite(width, int(width * config.squeeze))
        self.branch_gain = nn.Parameter(torch.zeros(()))

    def activate(self, x: Tensor) -> Tensor:
        """The activation with unit variance, any shape."""
        return self.act(x) * self.gamma

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, width, H / stride, W / stride]"""
        branch = self.activate(x) * self.beta
        if self.shortcut is not None:
            pooled = branch
            if self.stride > 1:
                pooled = F.avg_pool2d(branch, 2, self.stride, ceil_mode=True, count_include_pad=False)
            x = self.shortcut(pooled)
        branch = self.conv1(branch)
        branch = self.conv2(self.activate(branch))
        branch = self.conv3(self.activate(branch))
        branch = self.conv4(self.activate(branch))
        branch = ATTENTION_GAIN * self.attention(branch)
        out: Tensor = x + self.alpha * self.branch_gain * branch
        return out


class NFNet(nn.Module):
    """Pixels -> the grid of the last stage, flattened."""

    def __init__(self, config: NFNetConfig) -> None:
        super().__init__()
        self.config = config
        self.act, self.gamma = ACTIVATIONS[config.activation], GAMMA[config.activation]
        stem = config.stem_width
        if config.stem == "convolutions":
            channels, strides = (3, stem // 8, stem // 4, stem // 2, stem), (2, 1, 1, 2)
            self.stem = nn.ModuleList(StandardisedConv(channels[i], channels[i + 1], 3, strides[i]) for i in range(4))
        else:
            self.stem = nn.ModuleList([StandardisedConv(3 * 4 * 4, stem, 1)])
        self.stages = nn.ModuleList()
        width, variance = stem, 1.0
        for stage, (depth, next_width) in enumerate(zip(config.depths, config.widths, strict=True)):
            blocks = nn.ModuleList()
            for i in range(depth):
                stride = (config.first_stride if stage == 0 else 2) if i == 0 else 1
                blocks.append(Block(config, width, next_width, stride, beta=variance**-0.5))
                variance = (1.0 if i == 0 else variance) + config.alpha**2
                width = next_width
            self.stages.append(blocks)
        self.final = StandardisedConv(width, config.final_width, 1) if config.final_width else None

    def forward(self, pixels: Tensor) -> Tensor:
        """float[N, 3, image_size, image_size] -> float[N, P, V]"""
        x = F.pixel_unshuffle(pixels, 4) if self.config.stem == "space_to_depth" else pixels
        for i, convolution in enumerate(self.stem):
            x = convolution(self.act(x) * self.gamma if i else x)
        for stage in self.stages:
            for block in stage:  # type: ignore[attr-defined]
                x = block(x)
        if self.final is not None:
            x = self.final(x)
        x = self.act(x) * self.gamma
        out: Tensor = x.flatten(2).transpose(1, 2)
        return out
