"""The networks of the literature, built for any image size and initialised explicitly.

The designs are those of the published DC, DSA and DM code (``networks.py`` of
VICO-UoE/DatasetCondensation), which IDM and BACON share. What differs, and why:

* Published networks pad 28-pixel images to 32 if there is *one channel*; here the
  *size* 28 decides, so that 1x32x32 and 3x28x28 work.
* The classifier's width follows from the image size. VGG11 and ResNet18 average the
  last map whole, which at 28 and 32 pixels is what the published code does.
* A pooling or stride that would leave fewer than 2x2 pixels is left out while more
  layers follow: the instance norm of one pixel is a constant, and the logits would not
  depend on the image. At 28, 32 and 64 pixels only ``ConvNetD6`` is touched (28, 32).
* No module works in place, so ``torch.func`` applies; only the running statistics of
  batch norm rule out ``vmap``, in training mode.

Beside them stand the ``ViT`` of ``vit``, ResNet18 with the stem for ImageNet, and the
networks of torchvision and timm (``external``). 64 pixels want ``ConvNetD4``, which DM
and DC-BENCH train on Tiny ImageNet; IDM and BACON have ``ConvNet`` there, three deep.
"""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from dcbench_bacon import vit
from dcbench_bacon.errors import UsageError, guess
from dcbench_bacon.precision import layers
from dcbench_bacon.schema import Precision, ResidualInit

__all__ = ["MINIMUM_SIZE", "Network", "build", "check", "names", "reinitialize"]

MINIMUM_SIZE = 8
"""Pixels along a side of the smallest image that every network takes."""


class Network(nn.Module):
    """A feature extractor and a linear classifier.

    Attributes:
        features: layers applied in order; for a ConvNet four a block, flat:
            convolution, norm, activation, pooling, with an identity for what is absent.
        classifier: maps the flattened output of ``features`` to logits.
        precision: of the arithmetic inside; what goes in and out is not touched.
    """

    precision: Precision = "fp32"

    def __init__(self, features: nn.Sequential, width: int, classes: int) -> None:
        """Joins the layers, whose flattened output is ``width`` long, to logits."""
        super().__init__()
        self.features = features
        self.classifier = nn.Linear(width, classes)

    @property
    def batch_statistics(self) -> bool:
        """Whether it has buffers, such as the running statistics of batch norm."""
        return any(True for _ in self.buffers())

    def features_and_logits(
        self, images: Float[Tensor, "n c h w"]
    ) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n k"]]:
        """The features and the logits, from one pass."""
        with layers(self.precision, images.device):
            features = self._embed(images)
            logits = self.classifier(features)
        return features.to(images.dtype), logits.to(images.dtype)

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        """The logits."""
        return self.features_and_logits(images)[1]

    def embed(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """The classifier's input, which distribution matching compares.

        A ConvNet's last pooling, flattened (2,048 wide at 28 and 32 pixels); the
        penultimate activation of the other networks.
        """
        with layers(self.precision, images.device):
            return self._embed(images).to(images.dtype)

    def _embed(self, images: Tensor) -> Tensor:
        features: Tensor = self.features(_plainly_strided(images))
        return features.flatten(1)


def _plainly_strided(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Contiguous images with the strides that such a shape has by default.

    The stride of an axis of length one, as that of grey images' channels, is arbitrary,
    but a convolution takes it for a hint of the layout and rounds accordingly: images
    equal in every value must not give different bits.
    """
    return images.flatten().view(images.shape) if images.is_contiguous() else images


@runtime_checkable
class Drawn(Protocol):
    """A module that draws all its parameters, and those of its parts, by itself."""

    def draw(self, generator: torch.Generator) -> None:
        """Draws them anew, in place."""
        ...


class Residual(nn.Module):
    """The rectified sum of two branches."""

    def __init__(self, body: nn.Module, shortcut: nn.Module) -> None:
        """Keeps the branches, whose outputs have one shape."""
        super().__init__()
        self.body = body
        self.shortcut = shortcut

    def forward(self, maps: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k y x"]:
        """Applies both branches to the maps, adds and rectifies."""
        return F.relu(self.body(maps) + self.shortcut(maps))


_Blocks = Sequence[tuple[int, int, bool]]
"""Width and kernel of each convolution, and whether a pooling follows it."""

_ALEXNET: _Blocks = [  # class AlexNet
    *((128, 5, True), (192, 5, True)),
    *((256, 3, False), (192, 3, False), (192, 3, True)),
]
_VGG11: _Blocks = [  # cfg_vgg["VGG11"]; the minus marks a pooling
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
    """The norm layer for maps of ``width`` channels and ``size`` pixels a side."""
    if kind == "G" and width % 4:
        raise UsageError(f"group norm needs a width that 4 divides, not {width}")
    if kind in ("I", "G"):  # neither has running statistics: train and eval agree
        return nn.GroupNorm(width if kind == "I" else 4, width)
    if kind == "B":
        return nn.BatchNorm2d(width)
    return nn.LayerNorm([width, size, size]) if kind == "L" else nn.Identity()


def _stack(
    channels: int,
    size: int,
    blocks: _Blocks,
    norm: str = "I",
    activation: str = "R",
    pooling: str = "A",
) -> tuple[list[nn.Module], int]:
    """The layers of consecutive blocks, and the pixels a side of their output."""
    layers: list[nn.Module] = []
    extra = 2 if size == 28 else 0  # on either side, to make 28 pixels 32
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


def _mlp(channels: int, size: int) -> list[nn.Module]:
    """Two hidden layers: class MLP."""
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs in (channels * size * size, 128):
        layers += [nn.Linear(inputs, 128), nn.ReLU()]
    return layers


def _lenet(channels: int, size: int) -> list[nn.Module]:
    """Two convolutions and two linear layers: class LeNet.

    The first convolution is published with padding 2 for one channel (28 pixels) and 0
    for three (32): here 2 below 32. The second pads 2 where its map would be too small.
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


def _alexnet(channels: int, size: int, norm: str) -> list[nn.Module]:
    """Five convolutions, their output flattened."""
    return _stack(channels, size, _ALEXNET, norm, pooling="M")[0]


def _vgg11(channels: int, size: int, norm: str) -> list[nn.Module]:
    """Eight convolutions; the last map, one pixel at 32, is averaged."""
    layers, size = _stack(channels, size, _VGG11, norm, pooling="M")
    return [*layers, nn.AvgPool2d(size)]


def _residual(
    inputs: int, width: int, norm: str, factor: int = 1, pooled: bool = False
) -> Residual:
    """A basic block: BasicBlock if it strides, BasicBlock_AP if it pools."""
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


def _resnet18(
    channels: int, size: int, norm: str, pooled: bool = False, imagenet: bool = False
) -> list[nn.Module]:
    """Eight basic blocks after a 3x3 convolution: class ResNet.

    If ``pooled``, average poolings stand for the strides and the last map is flattened,
    not averaged: class ResNet_AP. If ``imagenet``, the stem is a 7x7 convolution and a
    pooling, each of stride 2 (He et al., CVPR 2016, table 1).
    """
    kernel = 7 if imagenet else 3
    stem = nn.Conv2d(
        *(channels, 64, kernel),
        stride=2 if imagenet else 1,
        padding=kernel // 2,
        bias=False,
    )
    layers: list[nn.Module] = [stem, _norm(norm, 64, size), nn.ReLU()]
    if imagenet:
        layers.append(nn.MaxPool2d(3, stride=2, padding=1))
        size = math.ceil(size / 4)
    layers += [_residual(64, 64, norm), _residual(64, 64, norm)]
    for width in (128, 256, 512):
        factor = 2 if size >= (4 if pooled else 3) else 1
        size = size // factor if pooled else math.ceil(size / factor)
        layers += [_residual(width // 2, width, norm, factor, pooled)]
        layers += [_residual(width, width, norm)]
    return layers if pooled else [*layers, nn.AvgPool2d(size)]


_FIXED: dict[str, Callable[[int, int], list[nn.Module]]] = {
    "MLP": _mlp,
    "LeNet": _lenet,
    "AlexNet": partial(_alexnet, norm="N"),
    "AlexNetBN": partial(_alexnet, norm="B"),
    "VGG11": partial(_vgg11, norm="I"),
    "VGG11BN": partial(_vgg11, norm="B"),
    "ResNet18": partial(_resnet18, norm="I"),
    "ResNet18BN": partial(_resnet18, norm="B"),
    "ResNet18_AP": partial(_resnet18, norm="I", pooled=True),
    "ResNet18BN_AP": partial(_resnet18, norm="B", pooled=True),
    "ResNet18ImageNet": partial(_resnet18, norm="I", imagenet=True),
    "ResNet18ImageNetBN": partial(_resnet18, norm="B", imagenet=True),
    "ViT": vit.layers,
}
# The evaluation pools of utils.py, get_eval_pool, plus depths 5 and 6 (IDM).
_CONVNETS = (
    "|D1|D2|D3|D4|D5|D6|W32|W64|W128|W256|AS|AR|AL|ASwish|NN|BN|LN|IN|GN|NP|MP|AP"
    "|ASwishBN"
)
_TOKEN = re.compile(
    r"D(?P<depth>[1-9][0-9]*)|W(?P<width>[1-9][0-9]*)|A(?P<activation>Swish|[SRL])"
    r"|(?P<norm>[NBLIG])N|(?P<pooling>[NMA])P"
)


def names() -> list[str]:
    """The names of the literature; ``build`` takes further ConvNets."""
    return [f"ConvNet{tokens}" for tokens in _CONVNETS.split("|")] + list(_FIXED)


def _convnet_choices(name: str) -> dict[str, str] | None:
    """What a ConvNet's name chooses, or None if it is no such name."""
    if not name.startswith("ConvNet"):
        return None
    tokens = list(_TOKEN.finditer(name, len("ConvNet")))
    choices = {str(token.lastgroup): token[str(token.lastgroup)] for token in tokens}
    whole = "ConvNet" + "".join(token[0] for token in tokens) == name
    return choices if whole and len(choices) == len(tokens) else None


def _layers(name: str, channels: int, size: int) -> list[nn.Module]:
    """The feature layers of the named network."""
    if name in _FIXED:
        return _FIXED[name](channels, size)
    choices = _convnet_choices(name)
    if choices is None:
        near, known = guess(name, names()), ", ".join(names())
        raise UsageError(
            f"unknown network {name!r}.{near} There are: {known}; a "
            "ConvNet takes one each of D<depth>, W<width>, activation (AS AR AL "
            "ASwish), norm (NN BN LN IN GN) and pooling (NP MP AP), in any order; or "
            "torchvision:NAME or timm:NAME"
        )
    depth, width = int(choices.pop("depth", 3)), int(choices.pop("width", 128))
    return _stack(channels, size, [(width, 3, True)] * depth, **choices)[0]


def build(
    name: str,
    *,
    channels: int,
    size: int,
    classes: int,
    generator: torch.Generator | None = None,
    residual_init: ResidualInit = "default",
) -> Network:
    """Makes a randomly initialised network on the CPU, in training mode.

    Args:
        name: one of ``names``, or ``ConvNet`` and at most one each of ``D<depth>``,
            ``W<width>``, an activation, a norm and a pooling, as in
            ``ConvNetD4W64BN`` (what is left out is D3, W128, AR, IN, AP), or
            ``torchvision:NAME`` or ``timm:NAME``.
        channels: of the images.
        size: pixels along a side of the images, ``MINIMUM_SIZE`` or more.
        classes: number of logits.
        generator: draws the parameters; without one they differ on every call. The
            global generator is neither read nor moved.
        residual_init: how the convolutions of our ResNets start; see
            ``schema.Protocol``.

    Raises:
        UsageError: the name is unknown, or a number is too small.
    """
    if size < MINIMUM_SIZE or channels < 1 or classes < 1:
        raise UsageError(
            f"{name} needs {MINIMUM_SIZE} pixels a side, a channel and a class or "
            f"more, not size {size}, channels {channels}, classes {classes}"
        )
    if ":" in name:
        from dcbench_bacon import external  # which loads libraries of networks

        network = external.assemble(name, channels, size, classes)
    else:
        network = _assemble(name, channels, size, classes)
        network.to_empty(device="cpu")
    if generator is None:
        generator = torch.Generator()
        generator.seed()
    reinitialize(network, generator)
    if residual_init == "fan_out":
        _fan_out(network, generator)
    return network


def _assemble(name: str, channels: int, size: int, classes: int) -> Network:
    """A network of ours without storage for its parameters."""
    with torch.device("meta"):
        features = nn.Sequential(*_layers(name, channels, size))
        # Two images: batch norm refuses to train on one.
        width = features(torch.empty(2, channels, size, size)).flatten(1).shape[1]
        return Network(features, width, classes)


@cache
def check(name: str) -> None:
    """Makes sure that there is a network of this name, without building it.

    Raises:
        UsageError: there is none.
    """
    if ":" in name:
        from dcbench_bacon import external

        external.fit(name, MINIMUM_SIZE)
    else:
        _assemble(name, 1, MINIMUM_SIZE, 2)


def _parts(module: nn.Module) -> Iterator[nn.Module]:
    """A module and its parts, but for the parts of one that draws them itself."""
    yield module
    if not isinstance(module, Drawn):
        for part in module.children():
            yield from _parts(part)


@torch.no_grad()
def reinitialize(network: Network, generator: torch.Generator) -> None:
    """Draws all parameters anew, in place, and resets running statistics.

    The values are those of ``build`` with a generator in the same state, wherever the
    network lies and whatever its dtype and memory format. They follow PyTorch's
    defaults: uniform within ``1 / sqrt(fan_in)`` for convolutions and linear layers,
    ones and zeros for norms. External networks keep their own scheme.

    Args:
        network: made by ``build``.
        generator: on any device; the network's own saves a transfer.
    """
    # Drawn aside: another dtype or order of memory would change what is drawn in place.
    empty = partial(torch.empty, dtype=torch.float32, device=generator.device)
    for module in _parts(network):
        if isinstance(module, Drawn):
            module.draw(generator)
        elif isinstance(module, nn.Conv2d | nn.Linear):
            bound = 1 / math.sqrt(module.weight[0].numel())
            for parameter in module.parameters(recurse=False):
                values = empty(parameter.shape)
                parameter.copy_(values.uniform_(-bound, bound, generator=generator))
        elif isinstance(module, nn.GroupNorm | nn.LayerNorm | nn.BatchNorm2d):
            module.reset_parameters()


@torch.no_grad()
def _fan_out(network: Network, generator: torch.Generator) -> None:
    """Draws the convolutions of a residual network anew, as torchvision's ResNets do.

    Normal, with a variance of 2 over the outputs that an input reaches (He et al.,
    ICCV 2015). Networks without residual blocks keep what they have.
    """
    if not any(isinstance(module, Residual) for module in network.modules()):
        return
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            outputs = module.out_channels * math.prod(module.kernel_size)
            deviation = math.sqrt(2 / outputs)
            module.weight.normal_(0.0, deviation, generator=generator)
