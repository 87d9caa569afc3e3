"""The networks of the literature by name, for any image size, with explicit seeds.

The designs are those of the published code of DC, DSA and DM (``networks.py`` of
VICO-UoE/DatasetCondensation), which IDM and BACON share. The differences are:

* Published networks pad 28-pixel images to 32 if there is *one channel*; here the
  *size* 28 decides, so that 1x32x32 and 3x28x28 work.
* The width of the classifier follows from the image size. VGG11 and ResNet18 average
  the whole last map, which is the same as the published code at 28 and 32 pixels.
* A pooling or stride that would leave fewer than 2x2 pixels is omitted if more layers
  follow, because the instance norm of one pixel is a constant, and the logits would not
  depend on the image. At 28, 32 and 64 pixels this changes ``ConvNetD6`` only, at 28
  and 32 pixels.
* No module works in place, so that ``torch.func`` can be used. Only the running
  statistics of batch norm exclude ``vmap``, in training mode.

There are also the vision transformer of ``vit``, ResNet18 with the first layers for
ImageNet, and the networks of torchvision and timm (see ``hub``). For 64 pixels, DM and
DC-BENCH train ``ConvNetD4`` on Tiny ImageNet; IDM and BACON train ``ConvNet``, which
has depth 3.
"""

import math
import re
from collections.abc import Callable, Iterator
from functools import cache, partial

import torch
from torch import nn

from dcbench_bacon.errors import UsageError, unknown
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
from dcbench_bacon.networks.deep_networks import bottleneck_resnet, wide_resnet
from dcbench_bacon.networks.mobile_networks import mobilenet, shufflenet
from dcbench_bacon.runtime.compute.memory import saved_bytes

__all__ = ["MINIMUM_SIZE", "Network", "build", "check", "names", "reinitialize"]

MINIMUM_SIZE = 8
"""The pixels along a side of the smallest image that every network accepts."""


_STANDARD = "ConvNet"  # the network of which ``runtime.memory`` states the memory
_FIXED: dict[str, Callable[..., list[nn.Module]]] = {
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
    "ResNet50BN": partial(bottleneck_resnet, blocks=(3, 4, 6, 3)),
    "ResNet101BN": partial(bottleneck_resnet, blocks=(3, 4, 23, 3)),
    "WRN-16-2": partial(wide_resnet, depth=16, widening=2),
    "MobileNetV2": mobilenet,
    "ShuffleNetV2-0.5": shufflenet,
    "ViT": vit.layers,
}
# The evaluation pools of `get_eval_pool` in utils.py, and the depths 5 and 6 of IDM.
_CONVNETS = (
    "|D1|D2|D3|D4|D5|D6|W32|W64|W128|W256|AS|AR|AL|ASwish|NN|BN|LN|IN|GN|NP|MP|AP"
    "|ASwishBN"
)
_TOKEN = re.compile(
    r"D(?P<depth>[1-9][0-9]*)|W(?P<width>[1-9][0-9]*)|A(?P<activation>Swish|[SRL])"
    r"|(?P<norm>[NBLIG])N|(?P<pooling>[NMA])P"
)
_NARROW = re.compile(r"(VGG11|ResNet18)W([1-9][0-9]{0,3})(.*)")


def names() -> list[str]:
    """Return the names of the literature; ``build`` accepts further ConvNets."""
    return [f"ConvNet{tokens}" for tokens in _CONVNETS.split("|")] + list(_FIXED)


def _convnet_choices(name: str) -> dict[str, str] | None:
    """Return the choices in the name of a ConvNet, or None for any other name."""
    if not name.startswith("ConvNet"):
        return None
    tokens = list(_TOKEN.finditer(name, len("ConvNet")))
    choices = {str(token.lastgroup): token[str(token.lastgroup)] for token in tokens}
    whole = "ConvNet" + "".join(token[0] for token in tokens) == name
    return choices if whole and len(choices) == len(tokens) else None


def _layers(name: str, channels: int, size: int) -> list[nn.Module]:
    """Return the feature layers of the network of a name."""
    if name in _FIXED:
        return _FIXED[name](channels, size)
    if (narrow := _NARROW.fullmatch(name)) and narrow[1] + narrow[3] in _FIXED:
        layers = partial(_FIXED[narrow[1] + narrow[3]], width=int(narrow[2]))
        return layers(channels, size)
    choices = _convnet_choices(name)
    if choices is None:
        raise unknown(
            "network",
            name,
            names(),
            "; a ConvNet takes one each of D<depth>, W<width>, activation (AS AR AL "
            "ASwish), norm (NN BN LN IN GN) and pooling (NP MP AP), in any order; "
            "VGG11 and ResNet18 take W<width>, as in ResNet18W16BN; or "
            "torchvision:NAME or timm:NAME",
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
    """Return a randomly initialised network on the CPU, in training mode.

    Args:
        name: one of ``names``; or ``ConvNet`` followed by at most one each of
            ``D<depth>``, ``W<width>``, an activation, a norm and a pooling, as in
            ``ConvNetD4W64BN`` (the defaults are D3, W128, AR, IN and AP); or VGG11 or
            ResNet18 of another width than 64, as in ``ResNet18W16BN``; or
            ``torchvision:NAME`` or ``timm:NAME``.
        channels: the number of channels of the images.
        size: the pixels along a side of the images, ``MINIMUM_SIZE`` or more.
        classes: the number of logits.
        generator: draws the parameters; without one, they differ on every call. The
            global generator is neither read nor advanced.
        residual_init: how the convolutions of our ResNets are initialised; see
            ``protocol.Protocol``.

    Raises:
        UsageError: the name is unknown, or a number is too small.
    """
    if size < MINIMUM_SIZE or channels < 1 or classes < 1:
        raise UsageError(
            f"{name} needs images of {MINIMUM_SIZE} or more pixels a side, with 1 or "
            f"more channels and classes, not size {size}, channels {channels}, "
            f"classes {classes}"
        )
    if ":" in name:
        from dcbench_bacon.networks import hub  # which loads libraries of networks

        network = hub.assemble(name, channels, size, classes)
    else:
        network = assemble(name, channels, size, classes)
        network.to_empty(device="cpu")
    network.memory_demand = _memory_demand(name, channels, size)
    if generator is None:
        generator = torch.Generator()
        generator.seed()
    reinitialize(network, generator)
    if residual_init == "fan_out":
        _fan_out(network, generator)
    return network


def assemble(name: str, channels: int, size: int, classes: int) -> Network:
    """Return a network of the literature without memory for its parameters.

    Args:
        name: as ``build`` takes it, but for networks of torchvision and timm.
        channels: the number of channels of the images.
        size: the pixels along a side of the images.
        classes: the number of logits.

    Raises:
        UsageError: the name is unknown.
    """
    with torch.device("meta"):
        features = nn.Sequential(*_layers(name, channels, size))
        # Two images, because batch norm does not train on one.
        width = features(torch.empty(2, channels, size, size)).flatten(1).shape[1]
        return Network(features, width, classes)


@cache
def _memory_demand(name: str, channels: int, size: int) -> float:
    """Return the memory of a network per image; see ``Network.memory_demand``.

    It is measured on the meta device, where a forward pass computes nothing.
    """
    if name == _STANDARD:
        return 1.0
    standard = assemble(_STANDARD, channels, size, 2)
    images = torch.empty(2, channels, size, size, device="meta")
    if ":" in name:
        from dcbench_bacon.networks import hub

        kept = hub.saved_bytes_per_image(name, size) * len(images)
    else:
        kept = saved_bytes(assemble(name, channels, size, 2), images)
    return max(1.0, kept / saved_bytes(standard, images))


@cache
def check(name: str) -> None:
    """Make sure that there is a network of a name, without building it.

    Raises:
        UsageError: there is none; the message lists the names.
    """
    if ":" in name:
        from dcbench_bacon.networks import hub

        hub.check(name)
    else:
        assemble(name, 1, MINIMUM_SIZE, 2)


def _parts(module: nn.Module) -> Iterator[nn.Module]:
    """Yield a module and its parts, except the parts of a module that draws them."""
    yield module
    if not isinstance(module, Drawn):
        for part in module.children():
            yield from _parts(part)


@torch.no_grad()
def reinitialize(network: Network, generator: torch.Generator) -> None:
    """Draw all parameters again, in place, and reset running statistics.

    The values are those of ``build`` with a generator in the same state, for every
    device, type and memory format of the network. They follow PyTorch's defaults:
    uniform within ``1 / sqrt(fan_in)`` for convolutions and linear layers, and ones and
    zeros for norms. Networks of torchvision and timm keep their own initialisation.

    Args:
        network: a network that ``build`` returned.
        generator: a generator on any device; on that of the network, no transfer is
            needed.
    """
    # The numbers are drawn into a new tensor, because the type and the memory format of
    # a parameter would change numbers that are drawn in place.
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
    """Draw the convolutions of a residual network again, as in torchvision's ResNets.

    They are normal with a variance of 2 / fan-out (He et al., ICCV 2015). Networks
    without residual blocks do not change.
    """
    if not any(isinstance(module, Residual) for module in network.modules()):
        return
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            outputs = module.out_channels * math.prod(module.kernel_size)
            deviation = math.sqrt(2 / outputs)
            module.weight.normal_(0.0, deviation, generator=generator)
