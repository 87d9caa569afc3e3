"""Image quality: distances from real images, and agreement with the classes.

The real images are those of the test split, which neither the set nor the network that
computes the features has seen. Each number is accompanied by that of equally many
random training images, which shows what so few real images reach.

- The features of a network that is trained on the train split need no other files.
- The features of an open_clip model and its zero-shot agreement need its weights, from
  a local file or from open_clip's download.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import pandas as pd
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from dcbench_bacon.contract import Run
from dcbench_bacon.data.dataset import Dataset
from dcbench_bacon.data.splits import Split
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.errors import UsageError
from dcbench_bacon.evaluation.distances import bandwidth, frechet, mmd
from dcbench_bacon.recipes import overlay
from dcbench_bacon.runtime.compute.memory import images_per_call
from dcbench_bacon.schema import Cell
from dcbench_bacon.training.clip_model import SemanticScore
from dcbench_bacon.training.features import Embedding, FeatureSettings, build

COLUMNS = [
    *("set", "images", "features", "mmd", "mmd_real", "frechet", "frechet_real"),
    *("agreement", "agreement_real"),
]

NOTES = [
    "Distances from test images: 0 is best. MMD² is estimated without bias: where "
    "nothing differs, it is a little less than 0 as often as more.",
    "(real): of as many random training images. A few images give large Fréchet "
    "distances whatever they show: compare a set with this column, not with 0.",
]


class Labelled(NamedTuple):
    """Normalised images and the index of the class of each."""

    images: Float32[Tensor, "n c h w"]
    classes: Int64[Tensor, "n"]


class Judge(NamedTuple):
    """A network that computes features of images.

    Attributes:
        title: its name in the table.
        encode: computes the features whose distances are measured.
        score: the image-text model that names the class of an image; None for other
            networks.
    """

    title: str
    encode: Embedding
    score: SemanticScore | None = None


class QualityRequest(NamedTuple):
    """The options of a measurement of image quality.

    Attributes:
        architecture: architecture of the network trained on the train split.
        epochs: passes of its training over the train split, 2 or more.
        images: largest number of real images; the cost grows with its square.
        clip_model: open_clip's name of a model.
        clip_weights: a local file or open_clip's name of weights; empty for no model.
    """

    architecture: str = "ConvNet"
    epochs: int = 51
    images: int = 5000
    clip_model: str = "ViT-B-32"
    clip_weights: str = ""


def judges(run: Run, request: QualityRequest) -> Iterator[Judge]:
    """Yield an image-text model, if it has weights, and a trained network.

    Raises:
        UsageError: the model or its weights do not exist.
    """
    if request.clip_weights:  # before the training: a wrong name shows at once
        yield image_text_model(run, request)
    yield trained_network(run, request)


def trained_network(run: Run, request: QualityRequest) -> Judge:
    """Return a network trained on the train split; it is trained once and kept.

    Its features are the inputs of its last layer; see ``training/features.py``.
    """
    features = build(run, feature_settings(run.cell, request))
    reached = 100 * features.origin["train_accuracy"]
    return Judge(
        f"{request.architecture}, {reached:.1f} % of train right", features.embed
    )


def feature_settings(cell: Cell, request: QualityRequest) -> FeatureSettings:
    """Return the settings of the network that is trained on a data set."""
    return FeatureSettings(
        architecture=request.architecture,
        network_epochs=request.epochs,
        augmentation=overlay.augmentation_of_real(cell),
    )


def image_text_model(run: Run, request: QualityRequest) -> Judge:
    """Return an open_clip model, whose features are embeddings of length 1.

    Raises:
        UsageError: the model or its weights do not exist.
    """
    model, weights = request.clip_model, request.clip_weights
    try:
        score = SemanticScore.load(model, weights, run.info, run.device)
    except UsageError as error:  # its text names settings of a recipe, not our options
        said = str(error).replace("--set clip_model=", "--clip-model ")
        said = said.replace("--set clip_weights=", "--clip-weights ")
        raise UsageError(said.replace(", clip_weights=", " --clip-weights ")) from error
    return Judge(f"CLIP {model}", score.encode, score)


def appraise(
    dataset: Dataset,
    sets: Sequence[tuple[str, SyntheticSet]],
    judge: Judge,
    order: Int64[Tensor, "n"],
) -> list[dict[str, Any]]:
    """Return the distances of sets from the test images, one row per set.

    Args:
        dataset: the data set; every set is compared with its whole test split.
        sets: the sets with their names.
        judge: computes the features.
        order: an order of the training images; the first ones, as many as a set has
            images, are measured beside the set.
    """
    real = encode_split(judge.encode, dataset.test)
    width = bandwidth(real)
    rows = []
    for name, synthetic in sets:
        ours = _labelled(synthetic)
        row: dict[str, Any] = {"set": name, "images": len(ours.images)}
        row["features"] = judge.title
        both = {"": ours, "_real": _first(dataset, order[: len(ours.images)])}
        for ending, images in both.items():
            features = encode(judge.encode, images.images)
            row[f"mmd{ending}"] = mmd(features, real, width)
            row[f"frechet{ending}"] = frechet(features, real)
            if judge.score:
                row[f"agreement{ending}"] = agreement(features, images, judge.score)
        rows.append(row)
    return rows


def table(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Return a table of the rows of ``appraise``, those of one set together."""
    numbers = dict.fromkeys(COLUMNS[3:], float)
    frame = pd.DataFrame(list(rows), columns=COLUMNS).astype(numbers)
    order = list(dict.fromkeys(frame["set"]))
    ordered = frame.sort_values(
        "set", key=lambda names: names.map(order.index), kind="stable"
    )
    ordered.attrs["notes"] = NOTES
    return ordered


def encode(
    encoder: Embedding, images: Float32[Tensor, "n c h w"]
) -> Float[Tensor, "n d"]:
    """Return the features of any number of images."""
    most = images_per_call(images.device, images.shape[-1])
    with torch.no_grad():
        return torch.cat([encoder(piece) for piece in torch.split(images, most)])


def encode_split(encoder: Embedding, split: Split) -> Float[Tensor, "n d"]:
    """Return the features of all images of a split."""
    most = images_per_call(split.device, split.shape[-1])
    with torch.no_grad():
        return torch.cat([encoder(images) for images, _ in split.batches(most)])


def agreement(
    features: Float[Tensor, "n d"], images: Labelled, score: SemanticScore
) -> float:
    """Return the share of images whose nearest prompt is that of their own class.

    Args:
        features: features of the images from the model of ``score``.
        images: the same images; a soft label counts as its largest class.
        score: the image-text model with one prompt, ``a photo of a ...``, per class.

    Returns:
        A fraction in [0, 1].
    """
    nearest = (features @ score.text.T).argmax(1)
    return float((nearest == images.classes).double().mean())


def limited(dataset: Dataset, most: int, generator: torch.Generator) -> Dataset:
    """Return the data set with at most ``most`` test images, drawn at random."""
    count = len(dataset.test.labels)
    if count <= most:
        return dataset
    chosen = torch.randperm(count, generator=generator, device=generator.device)
    index = chosen[:most].to(dataset.test.labels.device)
    return replace(dataset, test=dataset.test.subset(index))


def _labelled(synthetic: SyntheticSet) -> Labelled:
    """Return the decoded images of a set, with their classes."""
    decoded = synthetic.decode()
    return Labelled(decoded.images, decoded.labels.argmax(1))


def _first(dataset: Dataset, index: Int64[Tensor, "n"]) -> Labelled:
    """Return normalised training images, with their classes."""
    train = dataset.train
    index = index.to(train.labels.device)
    return Labelled(train.take(index), train.labels[index])
