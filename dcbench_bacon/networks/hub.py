"""The classifiers of torchvision and timm by name, as networks of the harness.

``torchvision:resnet50`` and ``timm:convnext_tiny`` are built without weights. They are
changed as follows:

* Grey images are repeated to three channels.
* If a network does not accept images as small as those of the data set, they are
  enlarged bilinearly: by the smallest power of two at which it runs, or else to the
  size that it was made for.
* Dropout and stochastic depth are switched off, because their random numbers come from
  the global generator and could be neither seeded nor restored from a checkpoint.
* Parameters follow the network's own initialisation, with random numbers from an
  explicit generator. The classifier is a new linear layer.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from functools import cache, partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from dcbench_bacon.errors import UsageError
from dcbench_bacon.networks.base import Network
from dcbench_bacon.runtime.compute.memory import saved_bytes

SIZE = 224  # the size in pixels that most of these networks were made for
_OTHER_ENDS = ("googlenet", "inception", "squeezenet")  # not one linear classifier
_RATES = ("p", "dropout", "drop_prob")  # the layers' names for the share they drop
_TOO_SMALL = (RuntimeError, ValueError, AssertionError, IndexError, ZeroDivisionError)


class _Drawing(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A mode in which every random operation uses one generator, not the global one."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.generator = generator

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if torch.Tag.nondeterministic_seeded in func.tags:
            if all(argument.name != "generator" for argument in func._schema.arguments):
                func = func.overloadpacket.generator
            kwargs["generator"] = self.generator
        return func(*args, **kwargs)


class Fit(nn.Module):
    """The layer that gives images three channels and a sufficient size."""

    def __init__(self, side: int) -> None:
        """Keep the size in pixels."""
        super().__init__()
        self.side = side

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 3 y x"]:
        """Return the images with grey repeated, and enlarged where necessary."""
        if images.shape[1] == 1:
            images = images.repeat(1, 3, 1, 1)
        if images.shape[-1] == self.side:
            return images
        size = (self.side, self.side)
        return F.interpolate(images, size=size, mode="bilinear", align_corners=False)


class Body(nn.Module):
    """A network of torchvision or timm without its classifier.

    Args:
        make: builds such a network; it is called again whenever parameters are drawn.
    """

    def __init__(self, make: Callable[[], nn.Module]) -> None:
        """Build the network; ``draw`` gives its parameters their values."""
        super().__init__()
        self.make = make
        with _drawn_from(torch.Generator()):
            self.model = make()

    def draw(self, generator: torch.Generator) -> None:
        """Give parameters and buffers the values of a new network."""
        with _drawn_from(generator):
            fresh = self.make()
        self.model.load_state_dict(fresh.state_dict())

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        """Return the input of the classifier."""
        features: Tensor = self.model(images)
        return features


def assemble(name: str, channels: int, size: int, classes: int) -> Network:
    """Return a network on the CPU whose parameters are not drawn yet.

    Args:
        name: ``torchvision:NAME`` or ``timm:NAME``.
        channels: the number of channels of the images, 1 or 3.
        size: the pixels along a side of the images.
        classes: the number of logits.

    Raises:
        UsageError: there is no such network, it does not accept such images, or timm is
            not installed.
    """
    if channels not in (1, 3):
        raise UsageError(f"{name} takes images of 1 or 3 channels, not {channels}")
    side, width, _ = fit(name, size)
    features = nn.Sequential(Fit(side), Body(_maker(name)))
    with _drawn_from(torch.Generator()):
        return Network(features, width, classes)


class Fitted(NamedTuple):
    """How a network accepts images.

    Attributes:
        side: the size in pixels that images are enlarged to.
        width: the width of the features.
        model: the network on the meta device, in training mode.
    """

    side: int
    width: int
    model: nn.Module


def check(name: str) -> None:
    """Make sure that there is a network of a name, without building it.

    Raises:
        UsageError: there is no such library or network.
    """
    _maker(name)


@cache
def saved_bytes_per_image(name: str, size: int) -> float:
    """Return the bytes that autograd keeps per image, at the size it is enlarged to."""
    side, _, model = fit(name, size)
    images = torch.empty(2, 3, side, side, device="meta")
    return saved_bytes(model, images) / len(images)


@cache
def fit(name: str, size: int) -> Fitted:
    """Return how a network accepts images of a size.

    Args:
        name: ``torchvision:NAME`` or ``timm:NAME``.
        size: the pixels along a side of the images.

    Raises:
        UsageError: there is no such network, or it fails at every size tried.
    """
    return fitted(_without_memory(_maker(name)), name, size)


def fitted(model: nn.Module, name: str, size: int) -> Fitted:
    """Return how a network that is built accepts images of a size.

    Args:
        model: the network, on the meta device.
        name: its name, for the error.
        size: the pixels along a side of the images.

    Raises:
        UsageError: it fails at every size tried.
    """
    native = _own_size(model)
    doubled = (size << step for step in range(native.bit_length()))
    sides = list(dict.fromkeys([*(side for side in doubled if side < native), native]))
    probe = model.train()
    reason: object = "no size to try"
    for side in sides:
        # Two images, because batch norm does not train on one.
        try:
            output = probe(torch.empty(2, 3, side, side, device="meta"))
        except _TOO_SMALL as error:
            reason = " ".join(str(error).split())[:200]
            continue
        if isinstance(output, Tensor) and output.ndim == 2:
            return Fitted(side, output.shape[1], probe)
        reason = "its output is not one vector per image"
        break
    raise UsageError(f"{name} cannot be evaluated on {size} pixels: {reason}")


def _without_memory(make: Callable[[], nn.Module]) -> nn.Module:
    """Return a network on the meta device, where parameters take no memory."""
    try:
        with torch.device("meta"):
            return make()
    except (NotImplementedError, RuntimeError):  # its design reads values of tensors
        with _drawn_from(torch.Generator()):
            return make().to("meta")


@contextmanager
def _drawn_from(generator: torch.Generator) -> Iterator[None]:
    """Make new tensors use a generator and its device inside the context."""
    with generator.device, _Drawing(generator):
        yield


def _maker(name: str) -> Callable[[], nn.Module]:
    """Return a function that builds the network of a name without its classifier.

    Raises:
        UsageError: there is no such library or network.
    """
    library, _, model = name.partition(":")
    if library == "torchvision":
        from torchvision import models

        known = models.list_models(module=models)
        if model in known and model.startswith(_OTHER_ENDS):
            raise _other_end(model)
        make: Callable[[], nn.Module] = partial(_torchvision, model)
    elif library == "timm":
        timm = _timm()
        known = timm.list_models()
        if timm.is_model(model):  # with or without the tag of its weights
            known = [*known, model]
        make = partial(timm.create_model, model, pretrained=False, num_classes=0)
    else:
        raise UsageError(f"{name}: write torchvision:NAME or timm:NAME")
    if model not in known:
        near = get_close_matches(model, known, n=3)
        guess = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise UsageError(f"{library} has no classifier {model!r}.{guess}")
    return lambda: _quiet(make())


def _timm() -> Any:
    """Return the module timm.

    Raises:
        UsageError: timm is not installed.
    """
    try:
        import timm
    except ImportError as error:
        raise UsageError(
            "networks named timm:... need the package timm: pip install timm"
        ) from error
    return timm


def _torchvision(name: str) -> nn.Module:
    """Return a classifier of torchvision with an identity as its last linear layer."""
    from torchvision import models

    with warnings.catch_warnings():  # it warns that GoogLeNet is slow to initialise
        warnings.simplefilter("ignore", FutureWarning)
        model: nn.Module = models.get_model(name, weights=None)
    linear = [
        path
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear) and module.out_features == 1000
    ]
    if not linear or hasattr(model, "aux_logits"):
        raise _other_end(name)
    model.set_submodule(linear[-1], nn.Identity())
    return model


def _other_end(name: str) -> UsageError:
    return UsageError(
        f"torchvision:{name} does not end in one linear classifier; choose another"
    )


def _quiet(model: nn.Module) -> nn.Module:
    """Return the model without random layers and without operations in place."""
    for module in model.modules():
        for rate in _RATES:
            if isinstance(getattr(module, rate, None), float):
                setattr(module, rate, 0.0)
        if hasattr(module, "inplace"):
            setattr(module, "inplace", False)  # noqa: B010
    return model


def _own_size(model: nn.Module) -> int:
    """Return the pixels along a side of the images that a network was made for."""
    config = getattr(model, "default_cfg", None) or {}
    size = getattr(model, "image_size", None) or config.get("input_size") or SIZE
    return int(size[-1] if isinstance(size, tuple | list) else size)
