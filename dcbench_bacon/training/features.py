"""The features in which selection measures distances: a network's, pixels or CLIP's.

``network`` means the classifier's input (``Network.embed``) of a network that is
trained on the whole train split. It is trained once per content of the split,
architecture, recipe, seed and type of device. It is kept in ``shared/`` in the results
folder, beside the records and sets that were made with it, so that it is removed with
the results.
"""

import hashlib
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import torch
from jaxtyping import Float32
from msgspec import Meta
from torch import Tensor

from dcbench_bacon.contract import Run, Settings, State
from dcbench_bacon.data.dataset import sha256
from dcbench_bacon.data.splits import Split
from dcbench_bacon.field_types import Positive
from dcbench_bacon.networks import builder
from dcbench_bacon.networks.base import Network
from dcbench_bacon.networks.flat_parameters import FlatNetwork
from dcbench_bacon.runtime.compute.memory import images_per_call
from dcbench_bacon.training.clip_model import ImageEncoder, load_model
from dcbench_bacon.training.on_real import train
from dcbench_bacon.training.settings import Training
from dcbench_bacon.training.task import accuracy

logger = logging.getLogger(__name__)
_WORTH_TELLING = 60.0  # seconds of training from which on the user is told

FEATURES = "features"  # the stage of networks whose features are used


class FeatureSettings(Settings, frozen=True, kw_only=True):
    """The features that distances are measured in, and the training of the network.

    Attributes:
        features: ``network``, ``pixels`` (normalised) or ``clip`` (unit vectors).
        architecture: the name of the network, as ``networks.builder.build`` takes it.
        augmentation: the names of DSA operations joined by ``_`` for the training of
            the network; empty for no augmentation.
        network_epochs: the number of passes over the train split; after half of them
            the learning rate falls to a tenth.
        network_lr: the learning rate of the training, above 0.
        network_momentum: the momentum of the training, in [0, 1).
        network_weight_decay: the weight decay of the training, 0 or more.
        network_batch: the number of images per step.
        clip_model: the name of a model of open_clip.
        clip_weights: a local file, or the name of weights of open_clip.
    """

    features: Literal["network", "pixels", "clip"] = "network"
    architecture: str = "ConvNet"
    augmentation: str = "color_crop_cutout_flip_scale_rotate"
    network_epochs: Positive = 51
    network_lr: Annotated[float, Meta(gt=0)] = 0.01
    network_momentum: Annotated[float, Meta(ge=0, lt=1)] = 0.9
    network_weight_decay: Annotated[float, Meta(ge=0)] = 5e-4
    network_batch: Positive = 256
    clip_model: str = "ViT-B-32"
    clip_weights: str = ""

    @property
    def training(self) -> Training:
        """The settings of the network's training."""
        return Training(
            architecture=self.architecture,
            epochs=self.network_epochs,
            learning_rate=self.network_lr,
            momentum=self.network_momentum,
            weight_decay=self.network_weight_decay,
            batch_size=self.network_batch,
            augmentation=self.augmentation,
        )


Embedding = Callable[[Float32[Tensor, "n c h w"]], Float32[Tensor, "n d"]]
"""A function that returns the vectors of normalised images."""


class Features(NamedTuple):
    """The maps from images to the vectors whose distances count.

    Attributes:
        embed: returns one row per normalised image.
        origin: JSON values that describe the features.
    """

    embed: Embedding
    origin: dict[str, Any]


def build(run: Run, settings: FeatureSettings) -> Features:
    """Return the features of the settings; a network is trained or found.

    Raises:
        UsageError: the model or the weights of ``clip`` are missing.
    """
    maker = {"network": _network, "pixels": _pixels, "clip": _clip}[settings.features]
    embed, origin = maker(run, settings)
    return Features(embed, {"kind": settings.features, **origin})


def _pixels(run: Run, settings: FeatureSettings) -> tuple[Embedding, dict[str, Any]]:
    """Return the map to pixels that are standardised per channel."""
    return lambda images: images.flatten(1), {}


def _clip(run: Run, settings: FeatureSettings) -> tuple[Embedding, dict[str, Any]]:
    """Return the map to unit vectors in the space of an image-text model."""
    model = load_model(settings.clip_model, settings.clip_weights, "features='clip'")
    encoder = ImageEncoder(model, run.info, run.device)
    origin = {
        "model": settings.clip_model,
        "weights": settings.clip_weights,
        "weights_sha256": sha256(*model.visual.state_dict().values()),
    }
    return encoder.encode, origin


def _network(run: Run, settings: FeatureSettings) -> tuple[Embedding, dict[str, Any]]:
    """Return the map to the features of a network trained on the train split."""
    network, origin = trained(run, settings.training)
    return network.embed, origin


def trained(
    run: Run, training: Training, stage: str = FEATURES
) -> tuple[Network, dict[str, Any]]:
    """Return a network that is trained on the run's train split now or was before.

    Args:
        run: the run, which provides the images.
        training: the settings of the training.
        stage: the name of the stage, of the random streams and of the shared file.

    Returns:
        The network in evaluation mode, and JSON values that describe its origin.
    """
    name = _name(run, training, stage)
    content = run.once(name, partial(_train, training=training, stage=stage))
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
        "training": msgspec.structs.asdict(training),
        "train_accuracy": content["train_accuracy"],
        "weights_sha256": sha256(content["vector"], *content["buffers"].values()),
        "file": name,
    }
    return network.eval(), origin


def _train(run: Run, training: Training, stage: str) -> State:
    """Return the parameters and accuracy of a network trained on train alone."""
    if run.device.type == "cpu" and stage == FEATURES:
        _tell_duration(run, training)
    network = train(run, training, stage)
    return {
        "vector": FlatNetwork(network).vector(),
        "buffers": dict(network.named_buffers()),
        "train_accuracy": accuracy(network, run.train, run.info),
    }


def _tell_duration(run: Run, training: Training) -> None:
    """Warn of a long training on a CPU, and say what makes it shorter."""
    count = len(run.train.labels)
    seconds = training.epochs * count * _seconds_per_image(run, training.architecture)
    if seconds < _WORTH_TELLING:
        return
    hours, minutes = divmod(round(seconds / 60), 60)
    logger.warning(
        "%s is trained for %d epochs of %d images to compute features, once for all "
        "later commands; on this CPU that takes about %s; fewer epochs (quality: "
        "--epochs 11, run: --set network_epochs=11), a smaller network (quality: "
        "--architecture ConvNetW32, run: --set architecture=ConvNetW32) or a GPU "
        "(--device cuda) make it shorter",
        training.architecture,
        training.epochs,
        count,
        f"{hours} h {minutes} min" if hours else f"{minutes} min",
    )


def _seconds_per_image(run: Run, architecture: str) -> float:
    """Return the measured seconds of a forward and a backward pass per image."""
    info = run.info
    network = builder.build(
        architecture, channels=info.channels, size=info.size, classes=info.classes
    ).to(run.device)
    count = max(2, images_per_call(run.device, info.size, network.memory_demand))
    images = torch.zeros(count, info.channels, info.size, info.size, device=run.device)
    for _ in range(2):  # the first pass also reserves memory
        start = time.perf_counter()
        network(images).square().sum().backward()
        seconds = time.perf_counter() - start
    return seconds / count


def _name(run: Run, training: Training, stage: str) -> str:
    """Return a name that identifies everything that decides the parameters."""
    content = (_counted_before(training), _content(run.train), run.device.type)
    digest = hashlib.sha256(msgspec.json.encode(content)).hexdigest()[:16]
    where = f"{run.info.name}-{training.architecture}-s{run.cell.seed}"
    return f"{stage}-{where}-{digest}"


def _counted_before(training: Training) -> dict[str, Any]:
    """Return the training as the names of files have it: they count one epoch less.

    The name depends on the order of the fields.
    """
    fields = msgspec.structs.asdict(training)
    first = {"architecture": fields.pop("architecture")}
    return {**first, "epochs": fields.pop("epochs") - 1, **fields}


def _content(split: Split) -> str:
    """Return a text that identifies the images and labels of a train split."""
    return f"{split.shape} {split.sha256()}"
