"""Writers of synthetic sets in the formats of other tools, one function per format.

If a format cannot store a fact (partition, whitening, learned rate), a warning tells
the user, with the option that restores it. Formats of float32 keep every bit.
"""

import logging
import re
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dcbench_bacon.data import dataset
from dcbench_bacon.data.sets import synthetic_file
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.errors import OutputError, UsageError
from dcbench_bacon.exchange.formats import FORMATS
from dcbench_bacon.exchange.pictures.figure import (
    Choice,
    Shown,
    draw,
    name_above,
)
from dcbench_bacon.runtime.disk.files import write_atomically
from dcbench_bacon.schema import DatasetInfo

logger = logging.getLogger(__name__)


Writer = Callable[[Path, SyntheticSet, DatasetInfo], None]
_SAYS = {
    "dcbench": ("partition", "zca", "learning_rate"),
    "npz": ("partition", "zca", "learning_rate"),
    "mtt": ("learning_rate",),
    "dd_ranking": ("learning_rate",),
    "picture": ("partition", "zca", "learning_rate"),  # no tool reads pictures back
}
_REMEDIES = {
    "partition": "--partition {}",
    "zca": "--zca",
    "learning_rate": "--learned-rate {}",
}


def write(
    path: Path,
    format: str,
    synthetic: SyntheticSet,
    info: DatasetInfo,
    *,
    called: Path | None = None,
) -> None:
    """Write a set in a format.

    Args:
        path: a file, or for ``mtt``, ``dd_ranking`` and ``folder`` a folder.
        format: the name of the format.
        synthetic: the set.
        info: the facts of the data set that the set was made from.
        called: the name of the path in messages, if it will be renamed.

    Raises:
        UsageError: the format cannot store the set, or does not exist.
        OutputError: the files cannot be written.
    """
    if format not in WRITERS:
        known = ", ".join(name for name, entry in FORMATS.items() if entry.writes)
        raise UsageError(f"--to {format}: not written; there are: {known}")
    try:
        WRITERS[format](path, synthetic, info)
    except OSError as error:
        raise OutputError.of(path, error) from error
    held = {
        "partition": synthetic.partition if synthetic.partition > 1 else None,
        "zca": synthetic.provenance.get("zca"),
        "learning_rate": synthetic.provenance.get("learning_rate"),
    }
    for key, value in held.items():
        if value and key not in _SAYS.get(format, ()):
            remedy = _REMEDIES[key].format(value)
            logger.warning(
                "%s does not store this; give it when you read the file: %s",
                called or path,
                remedy,
            )


def dcbench(path: Path, synthetic: SyntheticSet, info: DatasetInfo) -> None:
    """Write dcbench's own file, which stores everything."""
    synthetic_file.write(path, synthetic)


def vico(path: Path, synthetic: SyntheticSet, info: DatasetInfo) -> None:
    """Write ``res_*.pt`` with one experiment, without accuracies."""
    pair = [_plain(synthetic.images), _indices(synthetic.labels, "vico")]
    _save(path, {"data": [pair], "accs_all_exps": {}})


def mtt(path: Path, synthetic: SyntheticSet, info: DatasetInfo) -> None:
    """Write a folder of ``images_best.pt``, ``labels_best.pt`` and ``lr_best.pt``."""
    _folder(path, synthetic, "{}_best.pt")


def dd_ranking(path: Path, synthetic: SyntheticSet, info: DatasetInfo) -> None:
    """Write a folder of ``images.pt``, in class order, ``labels.pt`` and ``lr.pt``."""
    order = synthetic.labels.argmax(1).argsort(stable=True)
    ordered = SyntheticSet(
        synthetic.images[order],
        synthetic.labels[order],
        synthetic.partition,
        synthetic.provenance,
    )
    _folder(path, ordered, "{}.pt")


def npz(path: Path, synthetic: SyntheticSet, info: DatasetInfo) -> None:
    """Write arrays ``images`` and ``labels`` (rows of probabilities), and facts."""
    arrays: dict[str, Any] = {
        "images": _plain(synthetic.images).numpy(),
        "labels": _plain(synthetic.labels).numpy(),
        "partition": np.int64(synthetic.partition),
        "zca": np.bool_(bool(synthetic.provenance.get("zca"))),
    }
    if (rate := synthetic.provenance.get("learning_rate")) is not None:
        arrays["learning_rate"] = np.float64(rate)
    stream = BytesIO()
    np.savez(stream, **arrays)
    write_atomically(path, stream.getvalue())


def folder(path: Path, synthetic: SyntheticSet, info: DatasetInfo) -> None:
    """Write one folder of 8-bit PNG files per class.

    The names of the folders begin with numbers, so that sorting keeps their order.
    """
    if synthetic.provenance.get("zca"):
        raise UsageError(
            "whitened images are no pixels; choose another format with --to"
        )
    indices = _indices(synthetic.labels, "folder").tolist()
    _check_empty(path)
    pixels = dataset.denormalize(_plain(synthetic.images), info).clamp(0, 1)
    images = (pixels * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    width = len(str(info.classes - 1))
    for number, (image, label) in enumerate(zip(images, indices, strict=True)):
        name = re.sub(r"[^\w.-]+", "_", info.class_names[label])
        stream = BytesIO()
        Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image).save(
            stream, "PNG"
        )
        place = path / f"{label:0{width}}_{name}" / f"{number:06}.png"
        write_atomically(place, stream.getvalue())


def picture(path: Path, synthetic: SyntheticSet, info: DatasetInfo) -> None:
    """Write one PNG of the set, with a row per class of the data set."""
    name = name_above(synthetic, path.stem)
    every = Choice(classes=tuple(range(info.classes)))
    write_atomically(path, draw([Shown(name, synthetic, info)], every))


WRITERS: dict[str, Writer] = {
    "dcbench": dcbench,
    "vico": vico,
    "mtt": mtt,
    "dd_ranking": dd_ranking,
    "npz": npz,
    "folder": folder,
    "picture": picture,
}


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous()


def _is_hard(labels: Tensor) -> bool:
    return bool(((labels == 0) | (labels == 1)).all())


def _indices(labels: Tensor, format: str) -> Tensor:
    """Return the class indices of one-hot rows.

    Raises:
        UsageError: the labels are soft.
    """
    if not _is_hard(labels):
        raise UsageError(
            f"soft labels do not fit into {format}, which keeps class indices; "
            "choose --to mtt, dd_ranking, npz or dcbench"
        )
    return _plain(labels).argmax(1)


def _save(path: Path, value: Any) -> None:
    """Write a value with ``torch.save``, in one rename."""
    stream = BytesIO()
    torch.save(value, stream)
    write_atomically(path, stream.getvalue())


def _folder(path: Path, synthetic: SyntheticSet, pattern: str) -> None:
    """Write one file per tensor: images, labels and the learned rate.

    Hard labels are written as class indices.
    """
    _check_empty(path)
    labels = _plain(synthetic.labels)
    hard = _is_hard(labels)
    _save(path / pattern.format("labels"), labels.argmax(1) if hard else labels)
    if (rate := synthetic.provenance.get("learning_rate")) is not None:
        _save(path / pattern.format("lr"), torch.tensor(rate, dtype=torch.float64))
    _save(path / pattern.format("images"), _plain(synthetic.images))


def _check_empty(path: Path) -> None:
    """Make sure that a path is a new or an empty folder."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UsageError(
            f"--output {path}: this format is a folder, and one that is not empty is "
            "left alone; name a new one"
        )
