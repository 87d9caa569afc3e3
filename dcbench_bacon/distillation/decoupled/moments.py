"""Means and variances of the inputs of an observer's layers.

Variances are biased: the squared deviations are divided by their number. Patch
statistics divide a map into square cells. Each cell has a mean and a variance over its
pixels, all channels and all images.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from dcbench_bacon.errors import UsageError
from dcbench_bacon.networks.base import Network

Maps = Float[Tensor, "n c h w"]


class Moments(NamedTuple):
    """The statistics of one layer's input, of a batch or of each of several groups.

    Attributes:
        mean: the mean of each channel.
        variance: the variance of each channel.
        patch_mean: the mean of each cell; without cells, an empty tensor.
        patch_variance: the variance of each cell; without cells, an empty tensor.
    """

    mean: Float[Tensor, "*g c"]
    variance: Float[Tensor, "*g c"]
    patch_mean: Float[Tensor, "*g p"]
    patch_variance: Float[Tensor, "*g p"]

    def distance(self, other: "Moments") -> Float[Tensor, "*g"]:
        """Return the sum of the norms of the four differences, of each group."""
        norms: list[Tensor] = [
            torch.linalg.vector_norm(ours - theirs, dim=-1)
            for ours, theirs in zip(self, other, strict=True)
        ]
        return norms[0] + norms[1] + norms[2] + norms[3]


def batch_moments(maps: Maps, patch: int) -> Moments:
    """Return the statistics of a batch of maps.

    Args:
        maps: the input of a layer.
        patch: the side of a cell in pixels; 0 for no cells.
    """
    variance, mean = torch.var_mean(maps, dim=(0, 2, 3), correction=0)
    if not patch:
        return Moments(mean, variance, mean[:0], mean[:0])
    cells = _cells(maps, patch)
    spread, centre = torch.var_mean(cells, dim=(0, 1, 3, 5), correction=0)
    return Moments(mean, variance, centre.flatten(), spread.flatten())


def image_moments(maps: Maps, patch: int) -> Moments:
    """Return the statistics of each map of a batch; see ``batch_moments``."""
    variance, mean = torch.var_mean(maps, dim=(2, 3), correction=0)
    if not patch:
        return Moments(mean, variance, mean[:, :0], mean[:, :0])
    cells = _cells(maps, patch)
    spread, centre = torch.var_mean(cells, dim=(1, 3, 5), correction=0)
    return Moments(mean, variance, centre.flatten(1), spread.flatten(1))


def _cells(maps: Maps, patch: int) -> Float[Tensor, "n c y p x q"]:
    """Return maps divided into cells, enlarged first where the cells do not fit."""
    height, width = maps.shape[-2:]
    patch = min(patch, height, width)
    rows, columns = -(-height // patch), -(-width // patch)
    if (rows * patch, columns * patch) != (height, width):
        side = (rows * patch, columns * patch)
        maps = F.interpolate(maps, size=side, mode="bilinear", align_corners=False)
    shape = (*maps.shape[:2], rows, patch, columns, patch)
    return maps.reshape(shape)


class Probe:
    """An observer whose layers' inputs can be read.

    Args:
        network: the observer, whose parameters are frozen.
        convolutions: whether the inputs of convolutions are read as well as those of
            batch norms.
        patch: the side of the cells of convolutions' inputs in pixels.

    Raises:
        UsageError: the observer has no such layer.
    """

    def __init__(self, network: Network, convolutions: bool, patch: int) -> None:
        """Register a hook on each layer."""
        self.network = network.eval().requires_grad_(False)
        kinds = (nn.BatchNorm2d, nn.Conv2d) if convolutions else (nn.BatchNorm2d,)
        self.layers = [layer for layer in network.modules() if isinstance(layer, kinds)]
        if not self.layers:
            raise UsageError(
                "an observer has no batch norm to match; match convolutions too with "
                "--set matched=all, or choose other networks with --set observers"
            )
        self.is_convolution = [isinstance(layer, nn.Conv2d) for layer in self.layers]
        self.patches = [
            patch if convolution else 0 for convolution in self.is_convolution
        ]
        self._inputs: list[Tensor | None] | None = None
        for index, layer in enumerate(self.layers):
            layer.register_forward_pre_hook(self._reader(index))

    def _reader(self, index: int) -> Any:
        """Return a hook that keeps the input of a layer while the probe listens."""

        def read(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            if self._inputs is not None:
                self._inputs[index] = arguments[0]

        return read

    def __call__(self, images: Maps) -> tuple[Float[Tensor, "n k"], list[Tensor]]:
        """Return the logits of images, and the input of each layer in module order.

        Raises:
            UsageError: a layer takes no part in the logits.
        """
        self._inputs = [None] * len(self.layers)
        try:
            logits = self.network(images)
            inputs = [maps for maps in self._inputs if maps is not None]
        finally:
            self._inputs = None
        if len(inputs) < len(self.layers):
            raise UsageError(
                "a layer of an observer takes no part in its logits; choose another "
                "network with --set observers"
            )
        return logits, inputs

    def running(self) -> Sequence[Moments | None]:
        """Return the running statistics of each batch norm; None for convolutions."""
        statistics: list[Moments | None] = []
        for layer in self.layers:
            mean, variance = (
                getattr(layer, name, None) for name in ("running_mean", "running_var")
            )
            if mean is None or variance is None:
                statistics.append(None)
            else:
                statistics.append(Moments(mean, variance, mean[:0], mean[:0]))
        return statistics
