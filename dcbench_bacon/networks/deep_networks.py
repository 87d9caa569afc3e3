"""The layers of the deep networks that label images: ResNet50 and 101, WRN-16-2.

The first layers are those for small images: a 3x3 convolution of stride 1 and no
pooling. A stride that would leave fewer than 2x2 pixels is omitted, as in ``builder``.
"""

from functools import partial

from jaxtyping import Float
from torch import Tensor, nn

from dcbench_bacon.networks.convnets import Residual, halved

_EXPANSION = 4  # the outputs of a bottleneck, relative to its width
_convolution = partial(nn.Conv2d, bias=False)


def bottleneck_resnet(
    channels: int, size: int, blocks: tuple[int, int, int, int]
) -> list[nn.Module]:
    """Return bottleneck blocks with batch norm (He et al., CVPR 2016, table 1).

    Args:
        channels: the number of channels of the images.
        size: the pixels along a side of the images.
        blocks: the number of blocks at each of the widths 64, 128, 256 and 512.
    """
    layers: list[nn.Module] = [
        _convolution(channels, 64, 3, padding=1),
        *(nn.BatchNorm2d(64), nn.ReLU()),
    ]
    inputs = 64
    for index, count in enumerate(blocks):
        stride, size = halved(size) if index else (1, size)
        for number in range(count):
            width = 64 * 2**index
            layers.append(_bottleneck(inputs, width, 1 if number else stride))
            inputs = _EXPANSION * width
    return [*layers, nn.AvgPool2d(size)]


def _bottleneck(inputs: int, width: int, stride: int) -> Residual:
    outputs = _EXPANSION * width
    body = nn.Sequential(
        _convolution(inputs, width, 1),
        *(nn.BatchNorm2d(width), nn.ReLU()),
        _convolution(width, width, 3, stride=stride, padding=1),
        *(nn.BatchNorm2d(width), nn.ReLU()),
        _convolution(width, outputs, 1),
        nn.BatchNorm2d(outputs),
    )
    if inputs == outputs:
        return Residual(body, nn.Identity())
    projection = _convolution(inputs, outputs, 1, stride=stride)
    return Residual(body, nn.Sequential(projection, nn.BatchNorm2d(outputs)))


class PreActivated(nn.Module):
    """A residual block whose norm and activation come before its convolutions."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        """Make the layers (Zagoruyko and Komodakis, BMVC 2016, Figure 1)."""
        super().__init__()
        self.active = nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU())
        self.body = nn.Sequential(
            _convolution(inputs, width, 3, stride=stride, padding=1),
            *(nn.BatchNorm2d(width), nn.ReLU()),
            _convolution(width, width, 3, padding=1),
        )
        self.projection = (
            None if inputs == width else _convolution(inputs, width, 1, stride=stride)
        )

    def forward(self, maps: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k y x"]:
        """Return the sum of the block and its shortcut."""
        active = self.active(maps)
        shortcut = maps if self.projection is None else self.projection(active)
        total: Tensor = self.body(active) + shortcut
        return total


def wide_resnet(channels: int, size: int, depth: int, widening: int) -> list[nn.Module]:
    """Return a wide residual network (Zagoruyko and Komodakis, BMVC 2016, table 1).

    Args:
        channels: the number of channels of the images.
        size: the pixels along a side of the images.
        depth: the number of convolutions on the longest path and 4; 16 in WRN-16-2.
        widening: the width relative to 16, 32 and 64; 2 in WRN-16-2.
    """
    layers: list[nn.Module] = [_convolution(channels, 16, 3, padding=1)]
    inputs = 16
    for index in range(3):
        stride, size = halved(size) if index else (1, size)
        for number in range((depth - 4) // 6):
            width = 16 * 2**index * widening
            layers.append(PreActivated(inputs, width, 1 if number else stride))
            inputs = width
    return [*layers, nn.BatchNorm2d(inputs), nn.ReLU(), nn.AvgPool2d(size)]
