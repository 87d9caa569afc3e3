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
from collections.abc import Callable, Iterator
from functools import cache, partial

import torch
from torch import nn

from dcbench_bacon.errors import UsageError, guess
from dcbench_bacon.field_types import ResidualInit
from dcbench_bacon.networks import vit
from dcbench_bacon.networks.base import Drawn, Network
from dcbench_bacon.networks.convnets import (
    Residual,
    alexnet,
    convnet,
    lenet,
    mlp,
    resnet18,
    vgg11,
)

__all__ = ["MINIMUM_SIZE", "Network", "build", "check", "names", "reinitialize"]

MINIMUM_SIZE = 8
"""Pixels along a side of the smallest image that every network takes."""


_FIXED: dict[str, Callable[[int, int], list[nn.Module]]] = {
    "MLP": mlp,
    "LeNet": lenet,
    "AlexNet": partial(alexnet, norm="N"),
    "AlexNetBN": partial(alexnet, norm="B"),
    "VGG11": partial(vgg11, norm="I"),
    "VGG11BN": partial(vgg11, norm="B"),
    "ResNet18": partial(resnet18, norm="I"),
    "ResNet18BN": partial(resnet18, norm="B"),
    "ResNet18_AP": partial(resnet18, norm="I", pooled=True),
    "ResNet18BN_AP": partial(resnet18, norm="B", pooled=True),
    "ResNet18ImageNet": partial(resnet18, norm="I", imagenet=True),
    "ResNet18ImageNetBN": partial(resnet18, norm="B", imagenet=True),
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
    return convnet(channels, size, [(width, 3, True)] * depth, **choices)[0]


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
        from dcbench_bacon.networks import hub  # which loads libraries of networks

        network = hub.assemble(name, channels, size, classes)
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
        from dcbench_bacon.networks import hub

        hub.fit(name, MINIMUM_SIZE)
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
