"""The layers of the convolutional networks of the literature on small images."""

import math
from collections.abc import Callable, Sequence
from functools import partial

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from dcbench_bacon.errors import UsageError


class Residual(nn.Module):
    """The rectified sum of two branches."""

    def __init__(self, body: nn.Module, shortcut: nn.Module) -> None:
        """Keep the branches, whose outputs have the same shape."""
        super().__init__()
        self.body = body
        self.shortcut = shortcut

    def forward(self, maps: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k y x"]:
        """Return the rectified sum of both branches applied to the maps."""
        return F.relu(self.body(maps) + self.shortcut(maps))


_Blocks = Sequence[tuple[int, int, bool]]
"""The width and kernel of each convolution, and whether a pooling follows it."""

_ALEXNET: _Blocks = [  # class AlexNet
    *((128, 5, True), (192, 5, True)),
    *((256, 3, False), (192, 3, False), (192, 3, True)),
]
_WIDTH = 64  # the channels of the first convolution of VGG11 and ResNet18
_VGG11: _Blocks = [  # cfg_vgg["VGG11"]; a minus marks a pooling
    (abs(width), 3, width < 0) for width in (-64, -128, 256, -256, 512, -512, 512, -512)
]
_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "S": nn.Sigmoid,
    "R": nn.ReLU,
    "L": partial(nn.LeakyReLU, 0.01),  # class ConvNet
    "Swish": nn.SiLU,
}
_POOLINGS = {"A": nn.AvgPool2d, "M": nn.MaxPool2d}


def _norm(kind: str, width: int, size: int) -> nn.Module:
    """Return the norm layer for maps of ``width`` channels, ``size`` pixels square."""
    if kind == "G" and width % 4:
        raise UsageError(
            f"group norm needs a width that is a multiple of 4, not {width}; write W64 "
            "or W128, for example, in the name of the ConvNet"
        )
    if kind in ("I", "G"):  # without running statistics, so that train equals eval
        return nn.GroupNorm(width if kind == "I" else 4, width)
    if kind == "B":
        return nn.BatchNorm2d(width)
    return nn.LayerNorm([width, size, size]) if kind == "L" else nn.Identity()


def halved(size: int) -> tuple[int, int]:
    """Return a stride for maps of a size, and the size after it.

    The stride is 2 if that leaves 2x2 pixels or more, and 1 otherwise.
    """
    return (2, math.ceil(size / 2)) if size >= 3 else (1, size)


def convnet(
    channels: int,
    size: int,
    blocks: _Blocks,
    norm: str = "I",
    activation: str = "R",
    pooling: str = "A",
) -> tuple[list[nn.Module], int]:
    """Return the layers of consecutive blocks, and the side of their output maps."""
    layers: list[nn.Module] = []
    extra = 2 if size == 28 else 0  # pixels on either side, which make 28 pixels 32
    size += 2 * extra
    for index, (width, kernel, pool) in enumerate(blocks):
        padding = kernel // 2 + (0 if index else extra)
        layers += [
            nn.Conv2d(channels, width, kernel, padding=padding),
            _norm(norm, width, size),
            _ACTIVATIONS[activation](),
        ]
        channels = width
        smallest = 1 if index == len(blocks) - 1 else 2
        if pool and pooling in _POOLINGS and size // 2 >= smallest:
            layers.append(_POOLINGS[pooling](2))
            size //= 2
        elif pool:
            layers.append(nn.Identity())
    return layers, size


def mlp(channels: int, size: int) -> list[nn.Module]:
    """Return two hidden layers, as in class MLP."""
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs in (channels * size * size, 128):
        layers += [nn.Linear(inputs, 128), nn.ReLU()]
    return layers


def lenet(channels: int, size: int) -> list[nn.Module]:
    """Return two convolutions and two linear layers, as in class LeNet.

    The published padding of the first convolution is 2 for one channel (28 pixels) and
    0 for three channels (32 pixels). Here it is 2 for images below 32 pixels. The
    second convolution has padding 2 where its map would be too small.
    """
    first = 0 if size >= 32 else 2
    size = (size + 2 * first - 4) // 2
    second = 0 if size >= 5 else 2
    size += 2 * second - 4
    layers = [
        nn.Conv2d(channels, 6, 5, padding=first),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5, padding=second),
        nn.ReLU(),
        nn.MaxPool2d(2) if size >= 2 else nn.Identity(),
        nn.Flatten(),
    ]
    for inputs, outputs in ((16 * max(size // 2, 1) ** 2, 120), (120, 84)):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return layers


def alexnet(channels: int, size: int, norm: str) -> list[nn.Module]:
    """Return five convolutions with norms and poolings, as in class AlexNet."""
    return convnet(channels, size, _ALEXNET, norm, pooling="M")[0]


def vgg11(channels: int, size: int, norm: str, width: int = _WIDTH) -> list[nn.Module]:
    """Return eight convolutions, and a mean over the last map (one pixel at 32).

    Args:
        channels: the number of channels of the images.
        size: the pixels along a side of the images.
        norm: ``I`` for instance norm or ``B`` for batch norm.
        width: the number of channels of the first convolution; the others follow.
    """
    scaled = [(maps * width // _WIDTH, kernel, pool) for maps, kernel, pool in _VGG11]
    layers, size = convnet(channels, size, scaled, norm, pooling="M")
    return [*layers, nn.AvgPool2d(size)]


def _residual(
    inputs: int, width: int, norm: str, factor: int = 1, pooled: bool = False
) -> Residual:
    """Return a basic block: BasicBlock if it strides, BasicBlock_AP if it pools."""
    convolution = partial(nn.Conv2d, out_channels=width, bias=False)
    stride = 1 if pooled else factor
    pool = [nn.AvgPool2d(factor)] if pooled and factor > 1 else []
    body = nn.Sequential(
        convolution(inputs, kernel_size=3, stride=stride, padding=1),
        _norm(norm, width, 0),
        nn.ReLU(),
        *pool,
        convolution(width, kernel_size=3, padding=1),
        _norm(norm, width, 0),
    )
    if inputs == width:
        return Residual(body, nn.Identity())
    projection = convolution(inputs, kernel_size=1, stride=stride)
    return Residual(body, nn.Sequential(projection, *pool, _norm(norm, width, 0)))


def resnet18(
    channels: int,
    size: int,
    norm: str,
    *,
    pooled: bool = False,
    imagenet: bool = False,
    width: int = _WIDTH,
) -> list[nn.Module]:
    """Return eight basic blocks after a 3x3 convolution, as in class ResNet.

    Args:
        channels: the number of channels of the images.
        size: the pixels along a side of the images.
        norm: ``I`` for instance norm or ``B`` for batch norm.
        pooled: whether average poolings replace the strides, and the last map is not
            averaged, as in class ResNet_AP.
        imagenet: whether the first layers are a 7x7 convolution and a pooling, each of
            stride 2 (He et al., CVPR 2016, table 1).
        width: the number of channels of the first convolution; the others follow.
    """
    kernel = 7 if imagenet else 3
    stem = nn.Conv2d(
        *(channels, width, kernel),
        stride=2 if imagenet else 1,
        padding=kernel // 2,
        bias=False,
    )
    layers: list[nn.Module] = [stem, _norm(norm, width, size), nn.ReLU()]
    if imagenet:
        layers.append(nn.MaxPool2d(3, stride=2, padding=1))
        size = math.ceil(size / 4)
    layers += [_residual(width, width, norm), _residual(width, width, norm)]
    for wide in (2 * width, 4 * width, 8 * width):
        factor = 2 if size >= (4 if pooled else 3) else 1
        size = size // factor if pooled else math.ceil(size / factor)
        layers += [_residual(wide // 2, wide, norm, factor, pooled)]
        layers += [_residual(wide, wide, norm)]
    return layers if pooled else [*layers, nn.AvgPool2d(size)]
