"""What every network of the harness is."""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dcbench_bacon.field_types import Precision
from dcbench_bacon.runtime.precision import layers


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
