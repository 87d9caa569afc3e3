"""The layers of MobileNetV2 and ShuffleNetV2 for small images.

They are the small variants that label images under G-VBSM and EDC. A stride that would
leave fewer than 2x2 pixels is omitted, as in ``builder``.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dcbench_bacon.networks.convnets import halved

_HALF = 0.5  # the width of both networks, relative to the published ones
# The expansion, width, number of blocks and stride of each stage of MobileNetV2
# (Sandler et al., CVPR 2018, table 2). The second stage has stride 1 on small images.
_MOBILE = (
    *((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2)),
    *((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
)
# The width and number of blocks of each stage of ShuffleNetV2 x0.5 (Ma et al., ECCV
# 2018, table 5).
_SHUFFLE = ((48, 4), (96, 8), (192, 4))


class Added(nn.Module):
    """The sum of maps and what a block makes of them."""

    def __init__(self, body: nn.Module) -> None:
        """Keep the block, whose output has the shape of its input."""
        super().__init__()
        self.body = body

    def forward(self, maps: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Return the sum."""
        total: Tensor = maps + self.body(maps)
        return total


def _convolved(
    inputs: int,
    outputs: int,
    kernel: int = 1,
    *,
    stride: int = 1,
    groups: int = 1,
    activation: type[nn.Module] | None = nn.ReLU,
) -> list[nn.Module]:
    """Return a convolution, its batch norm and its activation, if it has one."""
    padding = kernel // 2
    convolution = nn.Conv2d(
        *(inputs, outputs, kernel, stride, padding), groups=groups, bias=False
    )
    active = [activation()] if activation else []
    return [convolution, nn.BatchNorm2d(outputs), *active]


def mobilenet(channels: int, size: int) -> list[nn.Module]:
    """Return inverted residual blocks of half the published width."""
    inputs = int(32 * _HALF)
    stride, size = halved(size)
    layers = _convolved(channels, inputs, 3, stride=stride, activation=nn.ReLU6)
    for expansion, width, count, stage_stride in _MOBILE:
        outputs = int(width * _HALF)
        stride, size = halved(size) if stage_stride == 2 else (1, size)
        for number in range(count):
            step = 1 if number else stride
            block = _inverted(inputs, outputs, expansion, step)
            same = number > 0 or (inputs == outputs and stage_stride == 1)
            layers.append(Added(block) if same else block)
            inputs = outputs
    layers += _convolved(inputs, 1280, activation=nn.ReLU6)
    return [*layers, nn.AvgPool2d(size)]


def _inverted(inputs: int, outputs: int, expansion: int, stride: int) -> nn.Sequential:
    """Return an expansion, a convolution per channel and a projection."""
    wide = expansion * inputs
    return nn.Sequential(
        *_convolved(inputs, wide),
        *_convolved(wide, wide, 3, stride=stride, groups=wide),
        *_convolved(wide, outputs, activation=None),
    )


class Shuffled(nn.Module):
    """Two branches side by side, whose channels take turns in the output."""

    def __init__(self, left: nn.Module | None, right: nn.Module) -> None:
        """Keep the branches.

        Args:
            left: the first branch, which sees all maps as the second does; None to
                split the maps, and to leave the first half as it is.
            right: the second branch.
        """
        super().__init__()
        self.left = left
        self.right = right

    def forward(self, maps: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k y x"]:
        """Return the channels of both branches in turn."""
        if self.left is None:
            left, right = maps.chunk(2, dim=1)
        else:
            left, right = self.left(maps), maps
        pairs = torch.stack([left, self.right(right)], dim=2)
        return pairs.flatten(1, 2)


def shufflenet(channels: int, size: int) -> list[nn.Module]:
    """Return blocks of two branches, after a 1x1 convolution, of half the width."""
    inputs = 24
    layers = _convolved(channels, inputs)
    for width, count in _SHUFFLE:
        stride, size = halved(size)
        layers.append(_shuffled_down(inputs, width // 2, stride))
        kept = width // 2
        layers += [Shuffled(None, _branch(kept, kept)) for _ in range(count - 1)]
        inputs = width
    layers += _convolved(inputs, 1024)
    return [*layers, nn.AvgPool2d(size)]


def _branch(inputs: int, width: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        *_convolved(inputs, width),
        *_convolved(width, width, 3, stride=stride, groups=width, activation=None),
        *_convolved(width, width),
    )


def _shuffled_down(inputs: int, width: int, stride: int) -> Shuffled:
    """Return the first block of a stage, whose branches see all channels."""
    left = nn.Sequential(
        *_convolved(inputs, inputs, 3, stride=stride, groups=inputs, activation=None),
        *_convolved(inputs, width),
    )
    return Shuffled(left, _branch(inputs, width, stride))
