"""Saved sets, opened together with the data set that they are tested on."""

import logging
from dataclasses import replace
from pathlib import Path

import msgspec
import torch

from dcbench_bacon import schema
from dcbench_bacon.data import loading, synthetic_file, whitening
from dcbench_bacon.data.class_counts import count
from dcbench_bacon.data.dataset import Dataset, held_out_sha256, hold_out
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.errors import DataError, UsageError
from dcbench_bacon.exchange import adopt
from dcbench_bacon.exchange.formats import Claims
from dcbench_bacon.running import run
from dcbench_bacon.schema import Cell, DatasetInfo

logger = logging.getLogger(__name__)


def open_set(
    path: Path, claims: Claims, device: torch.device, root: Path | None
) -> run.OpenedSet:
    """Read a set and the data set that it is tested on."""
    synthetic = adopt.read(path, claims, root).to(device)
    return run.OpenedSet(synthetic, *_opened(path, synthetic, claims.dataset, root))


def made_by(synthetic: SyntheticSet) -> schema.Recipe | None:
    """Return the recipe that a set was distilled with; None for other tools' sets."""
    try:
        return msgspec.convert(synthetic.provenance["recipe"], schema.Recipe)
    except (KeyError, msgspec.ValidationError):
        return None


def held_out(path: Path, opened: run.OpenedSet) -> run.OpenedSet:
    """Take the images that were held out when the set was made out of train.

    The share is the one recorded in the file, whatever the present protocol states.

    Raises:
        UsageError: no images were held out, or those of another data set.
    """
    synthetic, cell, loaded, _ = opened
    made = made_by(synthetic)
    if made is None or not made.protocol.held_out:
        raise UsageError(
            f"{path}: --selection best_val and protocol.learning_rates need a split "
            "that was held out when the set was distilled; give them to dcbench run"
        )
    if synthetic.provenance.get("dataset_sha256") != loaded.fingerprint:
        raise UsageError(
            f"{path} was distilled from other images than {loaded.info.name} now has, "
            "so the images that were held out are not known; leave out --selection "
            "best_val and protocol.learning_rates"
        )
    train, validation = hold_out(cell, loaded.train, made.protocol.validation)
    if synthetic.provenance.get("validation_sha256") != held_out_sha256(validation):
        raise UsageError(
            f"{path} was distilled with other images held out than would be now; "
            "distil it again with dcbench run --fresh, or leave out --selection "
            "best_val and protocol.learning_rates"
        )
    return opened._replace(dataset=replace(loaded, train=train), validation=validation)


def _opened(
    path: Path, synthetic: SyntheticSet, dataset: str | None, root: Path | None
) -> tuple[Cell, Dataset]:
    """Return the cell of a set, and the data set that it is tested on.

    Raises:
        DataError: the file does not name its data set, or the data do not fit it.
    """
    try:
        cell = msgspec.convert(synthetic.provenance["cell"], Cell)
        made_for = msgspec.convert(synthetic.provenance["dataset"], DatasetInfo)
    except (KeyError, msgspec.ValidationError) as error:
        raise DataError(
            f"{path} does not name the data set it was made from; make the set again, "
            "or read the file of another tool with --from and --dataset"
        ) from error
    synthetic_file.check_fits(path, synthetic, made_for)
    for warning in count(synthetic.labels).warnings(made_for.class_names):
        logger.warning("%s: %s", path, warning)
    # A file's header must not name a folder of this machine; only --dataset may.
    name = dataset or cell.dataset.partition(":")[0]
    try:
        loaded = loading.load(name, root, synthetic.images.device)
    except UsageError as error:
        raise DataError(
            f"{path} was made from {cell.dataset}, and there is no data set of that "
            "name; name it with --dataset, or a folder with --dataset folder:PATH"
        ) from error
    found = (loaded.info.channels, loaded.info.size, loaded.info.classes)
    if found != (made_for.channels, made_for.size, made_for.classes):
        raise DataError(
            f"{path} was made from {made_for.name} ({_shape(made_for)}), "
            f"{loaded.info.name} has {_shape(loaded.info)}; "
            "name the right one with --dataset"
        )
    if (loaded.info.mean, loaded.info.std) != (made_for.mean, made_for.std):
        raise DataError(
            f"{path} was normalised with the statistics of {made_for.name}, which are "
            f"not those of {loaded.info.name}; name the right one with --dataset"
        )
    if synthetic.provenance.get("zca"):
        loaded = whitening.whiten(loaded)
        if synthetic.provenance.get("dataset_sha256", loaded.fingerprint) != (
            loaded.fingerprint
        ):
            logger.warning(
                "%s was whitened with the statistics of other images than those of %s "
                "on this machine: its accuracy will be too low",
                path,
                loaded.info.name,
            )
    return cell, loaded


def _shape(info: DatasetInfo) -> str:
    return f"{info.channels}x{info.size}x{info.size}, {info.classes} classes"
