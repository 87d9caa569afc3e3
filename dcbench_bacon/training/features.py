"""What selection measures distances in: a network's features, pixels or CLIP's.

``network`` means the classifier's input (``Network.embed``) of a network trained on
the whole train split. It is trained once for each content of the split, architecture,
recipe, seed and kind of device, and kept under ``shared/`` in the results folder, where
the records and sets made with it are: removing the results removes it too.
"""

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from jaxtyping import Float32, UInt8
from msgspec import Meta
from torch import Tensor

from dcbench_bacon.contract import Run, Settings, State
from dcbench_bacon.data.dataset import normalize, sha256
from dcbench_bacon.data.synthetic import Split
from dcbench_bacon.field_types import Positive
from dcbench_bacon.networks import builder
from dcbench_bacon.networks.base import Network
from dcbench_bacon.networks.flat_parameters import FlatNetwork
from dcbench_bacon.training.clip_model import ImageEncoder, load_model
from dcbench_bacon.training.on_real import train
from dcbench_bacon.training.settings import Training
from dcbench_bacon.training.task import accuracy


class FeatureSettings(Settings, frozen=True, kw_only=True):
    """What distances are measured in, and the training of the network.

    Attributes:
        features: ``network``, ``pixels`` (normalised) or ``clip`` (unit vectors).
        architecture: of the network.
        augmentation: DSA operations joined by ``_``, in its training; empty for none.
        network_epochs: one less than its passes over the train split; after half of
            them the learning rate falls to a tenth.
        network_lr: its learning rate.
        network_momentum: its momentum.
        network_weight_decay: its weight decay.
        network_batch: images a mini-batch.
        clip_model: open_clip's name of a model.
        clip_weights: a local file, or open_clip's name of weights.
    """

    features: Literal["network", "pixels", "clip"] = "network"
    architecture: str = "ConvNet"
    augmentation: str = "color_crop_cutout_flip_scale_rotate"
    network_epochs: Positive = 50
    network_lr: Annotated[float, Meta(gt=0)] = 0.01
    network_momentum: Annotated[float, Meta(ge=0, lt=1)] = 0.9
    network_weight_decay: Annotated[float, Meta(ge=0)] = 5e-4
    network_batch: Positive = 256
    clip_model: str = "ViT-B-32"
    clip_weights: str = ""

    @property
    def training(self) -> Training:
        """How the network is trained."""
        return Training(
            architecture=self.architecture,
            passes=self.network_epochs + 1,
            learning_rate=self.network_lr,
            momentum=self.network_momentum,
            weight_decay=self.network_weight_decay,
            batch_size=self.network_batch,
            augmentation=self.augmentation,
        )


Embedding = Callable[[Float32[Tensor, "n c h w"]], Float32[Tensor, "n d"]]
"""From normalised images to their vectors."""


class Features(NamedTuple):
    """What maps images to the vectors whose distances count.

    Attributes:
        encode: takes images of a ``Split``, gives a row an image.
        embed: the same from normalised images.
        origin: JSON values that say where the vectors come from.
    """

    encode: Callable[
        [UInt8[Tensor, "n c h w"] | Float32[Tensor, "n c h w"]], Float32[Tensor, "n d"]
    ]
    embed: Embedding
    origin: dict[str, Any]


def build(run: Run, settings: FeatureSettings) -> Features:
    """The features that the settings name; trains or finds the network.

    Raises:
        UsageError: the weights of ``clip`` are not there.
    """
    maker = {"network": _network, "pixels": _pixels, "clip": _clip}[settings.features]
    embed, origin = maker(run, settings)
    return Features(
        lambda images: embed(normalize(images, run.info)),
        embed,
        {"kind": settings.features, **origin},
    )


def _pixels(run: Run, settings: FeatureSettings) -> tuple[Embedding, dict[str, Any]]:
    """Pixels, each channel standardised."""
    return lambda images: images.flatten(1), {}


def _clip(run: Run, settings: FeatureSettings) -> tuple[Embedding, dict[str, Any]]:
    """Directions in the space of an image-text model."""
    model = load_model(settings.clip_model, settings.clip_weights, "features='clip'")
    encoder = ImageEncoder(model, run.info, run.device)
    origin = {
        "model": settings.clip_model,
        "weights": settings.clip_weights,
        "weights_sha256": sha256(*model.visual.state_dict().values()),
    }
    return encoder.encode, origin


def _network(run: Run, settings: FeatureSettings) -> tuple[Embedding, dict[str, Any]]:
    """The features of a network trained on the train split."""
    network, origin = trained(run, settings.training)
    return network.embed, origin


def trained(run: Run, training: Training) -> tuple[Network, dict[str, Any]]:
    """A network trained on the run's train split: made now, or found.

    Args:
        run: names and holds the images.
        training: how.

    Returns:
        The network in evaluation mode, and JSON values that say where it comes from.
    """
    name = _name(run, training)
    content = run.once(name, partial(_train, training=training))
    network = builder.build(
        training.architecture,
        channels=run.info.channels,
        size=run.info.size,
        classes=run.info.classes,
    ).to(run.device)
    network.precision = training.precision
    FlatNetwork(network).attach(content["vector"].to(run.device))
    for key, buffer in network.named_buffers():
        buffer.copy_(content["buffers"][key])
    origin = {
        "training": _described(training),
        "train_accuracy": content["train_accuracy"],
        "weights_sha256": sha256(content["vector"], *content["buffers"].values()),
        "file": name,
    }
    return network.eval(), origin


def _train(run: Run, training: Training) -> State:
    """Trains the network; the test split is out of its reach."""
    network = train(run, training, "features")
    return {
        "vector": FlatNetwork(network).vector(),
        "buffers": dict(network.named_buffers()),
        "train_accuracy": accuracy(network, run.train, run.info),
    }


def _name(run: Run, training: Training) -> str:
    """Names everything that decides the network's parameters."""
    content = (_described(training), _content(run.train), run.device.type)
    digest = hashlib.sha256(msgspec.json.encode(content)).hexdigest()[:16]
    where = f"{run.info.name}-{training.architecture}-s{run.cell.seed}"
    return f"features-{where}-{digest}"


def _described(training: Training) -> dict[str, Any]:
    """The training as records and the names of shared files have it.

    They count ``epochs``, one less than the passes, and the name depends on the order.
    """
    fields = msgspec.to_builtins(training)
    architecture, passes = fields.pop("architecture"), fields.pop("passes")
    return {"architecture": architecture, "epochs": passes - 1, **fields}


def _content(split: Split) -> str:
    """Tells apart train splits; one with images held out is another."""
    return f"{tuple(split.images.shape)} {sha256(split.images, split.labels)}"
