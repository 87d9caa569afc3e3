"""Any classifier of torchvision or timm, by name, as one of our networks.

``torchvision:resnet50`` and ``timm:convnext_tiny`` are built without weights. What is
ours, and why:

* Grey images are repeated to three channels.
* A network that cannot take images so small gets them enlarged bilinearly: by the
  smallest power of two at which it runs, else to the size it was made for.
* Dropout and stochastic depth are switched off: their draws come from the global
  generator, and could be neither seeded nor resumed.
* Parameters follow the network's own scheme of initialisation, drawn from our
  generator; the classifier is a fresh linear layer.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from functools import cache, partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from dcbench_bacon.errors import UsageError
from dcbench_bacon.networks.base import Network

SIZE = 224  # what most of these networks were made for
_RATES = ("p", "dropout", "drop_prob")  # what layers call the share they drop
_TOO_SMALL = (RuntimeError, ValueError, AssertionError, IndexError, ZeroDivisionError)


class _Drawing(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Makes every random operation draw from one generator, not the global one."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.generator = generator

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if torch.Tag.nondeterministic_seeded in func.tags:
            if all(each.name != "generator" for each in func._schema.arguments):
                func = func.overloadpacket.generator
            kwargs["generator"] = self.generator
        return func(*args, **kwargs)


class Fit(nn.Module):
    """Images as an external network takes them: three channels, large enough."""

    def __init__(self, side: int) -> None:
        """Keeps the size in pixels."""
        super().__init__()
        self.side = side

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 3 y x"]:
        """Repeats grey, and enlarges where that is needed."""
        if images.shape[1] == 1:
            images = images.repeat(1, 3, 1, 1)
        if images.shape[-1] == self.side:
            return images
        size = (self.side, self.side)
        return F.interpolate(images, size=size, mode="bilinear", align_corners=False)


class Body(nn.Module):
    """An external network without its classifier.

    Args:
        make: builds one; it is called again whenever parameters are drawn.
    """

    def __init__(self, make: Callable[[], nn.Module]) -> None:
        """Builds the network; ``draw`` gives it the values that count."""
        super().__init__()
        self.make = make
        with _drawn_from(torch.Generator()):
            self.model = make()

    def draw(self, generator: torch.Generator) -> None:
        """Gives parameters and buffers the values of a fresh network."""
        with _drawn_from(generator):
            fresh = self.make()
        self.model.load_state_dict(fresh.state_dict())

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        """The features that the classifier sees."""
        features: Tensor = self.model(images)
        return features


def assemble(name: str, channels: int, size: int, classes: int) -> Network:
    """An external network on the CPU, its parameters not drawn yet.

    Args:
        name: ``torchvision:NAME`` or ``timm:NAME``.
        channels: 1 or 3.
        size: pixels along a side of the images.
        classes: number of logits.

    Raises:
        UsageError: there is no such network, it takes no images of this kind, or timm
            is not installed.
    """
    if channels not in (1, 3):
        raise UsageError(f"{name} takes images of 1 or 3 channels, not {channels}")
    side, width = fit(name, size)
    features = nn.Sequential(Fit(side), Body(_maker(name)))
    with _drawn_from(torch.Generator()):
        return Network(features, width, classes)


@cache
def fit(name: str, size: int) -> tuple[int, int]:
    """The size that images are enlarged to, and the width of the features.

    Raises:
        UsageError: there is no such network, or it fails at every size tried.
    """
    with _drawn_from(torch.Generator()):
        model = _maker(name)()
    own = _own_size(model)
    doubled = (size << step for step in range(own.bit_length()))
    sides = list(dict.fromkeys([*(side for side in doubled if side < own), own]))
    probe = model.to("meta").train()
    reason: object = "no size to try"
    for side in sides:
        # Two images: batch norm refuses to train on one.
        try:
            output = probe(torch.empty(2, 3, side, side, device="meta"))
        except _TOO_SMALL as error:
            reason = " ".join(str(error).split())[:200]
            continue
        if isinstance(output, Tensor) and output.ndim == 2:
            return side, output.shape[1]
        reason = "its output is not one vector an image"
        break
    raise UsageError(f"{name} cannot be evaluated on {size} pixels: {reason}")


@contextmanager
def _drawn_from(generator: torch.Generator) -> Iterator[None]:
    """What is built inside lies on the generator's device and draws from it."""
    with generator.device, _Drawing(generator):
        yield


def _maker(name: str) -> Callable[[], nn.Module]:
    """Builds the named network without its classifier.

    Raises:
        UsageError: there is no such library or network.
    """
    library, _, model = name.partition(":")
    if library == "torchvision":
        from torchvision import models

        known = models.list_models(module=models)
        make: Callable[[], nn.Module] = partial(_torchvision, model)
    elif library == "timm":
        timm = _timm()
        known = timm.list_models()
        if timm.is_model(model):  # with or without the tag of some weights
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
    """The module timm.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import timm
    except ImportError as error:
        raise UsageError(
            "networks named timm:... need the package timm: pip install timm"
        ) from error
    return timm


def _torchvision(name: str) -> nn.Module:
    """A classifier of torchvision, its last linear layer replaced by an identity."""
    from torchvision import models

    with warnings.catch_warnings():  # that GoogLeNet is slow to initialise
        warnings.simplefilter("ignore", FutureWarning)
        model: nn.Module = models.get_model(name, weights=None)
    linear = [
        path
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear) and module.out_features == 1000
    ]
    if not linear or hasattr(model, "aux_logits"):
        raise UsageError(
            f"torchvision:{name} does not end in one linear classifier; choose another"
        )
    model.set_submodule(linear[-1], nn.Identity())
    return model


def _quiet(model: nn.Module) -> nn.Module:
    """The model with nothing random in it and nothing done in place."""
    for module in model.modules():
        for rate in _RATES:
            if isinstance(getattr(module, rate, None), float):
                setattr(module, rate, 0.0)
        if hasattr(module, "inplace"):
            setattr(module, "inplace", False)  # noqa: B010
    return model


def _own_size(model: nn.Module) -> int:
    """Pixels along a side of the images that a network was made for."""
    config = getattr(model, "default_cfg", None) or {}
    size = getattr(model, "image_size", None) or config.get("input_size") or SIZE
    return int(size[-1] if isinstance(size, tuple | list) else size)
