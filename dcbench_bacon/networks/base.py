"""The base class of the networks of the harness."""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dcbench_bacon.field_types import Precision
from dcbench_bacon.runtime.compute.precision import layers


class Network(nn.Module):
    """A network of a feature extractor and a linear classifier.

    Attributes:
        features: the layers in order. A ConvNet has four per block: a convolution, a
            norm, an activation and a pooling, with an identity for one that is absent.
        classifier: the linear layer from the flattened output of ``features`` to
            logits.
        precision: the precision of the arithmetic inside; inputs and outputs keep
            theirs.
        memory_demand: the memory of its activations per image, relative to those of
            ConvNet-D3 on the same images, at the resolution that it enlarges them to;
            at least 1.
    """

    precision: Precision = "fp32"
    memory_demand: float = 1.0

    def __init__(self, features: nn.Sequential, width: int, classes: int) -> None:
        """Keep the layers, whose flattened output has ``width`` numbers."""
        super().__init__()
        self.features = features
        self.classifier = nn.Linear(width, classes)

    @property
    def batch_statistics(self) -> bool:
        """Whether the network has batch norm, which makes images depend on each other.

        Other buffers, such as the table of positions of a Swin transformer, are
        constants.
        """
        return any(isinstance(module, _BatchNorm) for module in self.modules())

    @property
    def parameter_count(self) -> int:
        """The number of parameters."""
        return sum(parameter.numel() for parameter in self.parameters())

    def features_and_logits(
        self, images: Float[Tensor, "n c h w"]
    ) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n k"]]:
        """Return the features and the logits of one forward pass."""
        with layers(self.precision, images.device):
            features = self._embed(images)
            logits = self.classifier(features)
        return features.to(images.dtype), logits.to(images.dtype)

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        """Return the logits."""
        return self.features_and_logits(images)[1]

    def embed(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """Return the classifier's input, which distribution matching compares.

        For a ConvNet this is the flattened output of the last pooling, with 2,048
        numbers at 28 and 32 pixels. For other networks it is the penultimate
        activation.
        """
        with layers(self.precision, images.device):
            return self._embed(images).to(images.dtype)

    def _embed(self, images: Tensor) -> Tensor:
        features: Tensor = self.features(_plainly_strided(images))
        return features.flatten(1)


def _plainly_strided(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Return contiguous images with the default strides of their shape.

    The stride of an axis of length one, such as the channels of grey images, is
    arbitrary. A convolution takes it for a hint of the layout and rounds accordingly,
    so that without this, images of equal values could give different bits.
    """
    return images.flatten().view(images.shape) if images.is_contiguous() else images


@runtime_checkable
class Drawn(Protocol):
    """A module that draws all its own parameters and those of its parts."""

    def draw(self, generator: torch.Generator) -> None:
        """Draw the parameters again, in place."""
        ...
