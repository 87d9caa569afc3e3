"""Readers of the synthetic sets of other tools, one function per format.

A reader finds what a file contains; ``adopt`` decides what it means and checks it. The
layouts are those of the tools' own code; see the docstring of each reader.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dcbench_bacon.errors import DataError
from dcbench_bacon.exchange import image_folder
from dcbench_bacon.exchange.array_readers import dictionary, kip, npy, npz, safetensors
from dcbench_bacon.exchange.interpretation import accuracies
from dcbench_bacon.exchange.interpretation.content import (
    FOUR,
    Content,
    Guess,
    beside,
    choose,
    file_of,
    of_files,
    pair,
    scalar,
    swapped,
    unsaid,
)
from dcbench_bacon.exchange.pickles.archives import load_torch
from dcbench_bacon.exchange.pickles.stored import of_buffer
from dcbench_bacon.runtime.disk.files import printable

Reader = Callable[[Path, int | None], Content]


def vico(path: Path, index: int | None) -> Content:
    """Read ``res_{METHOD}_{DATASET}_{MODEL}_{IPC}ipc.pt``, a dictionary with ``data``.

    ``data`` is a list with [images, labels] for each experiment. DC, DSA and DM of VICO
    write it, and so do IDM and BACON, whose images contain four smaller ones each and
    whose default file name contains DM.
    """
    value, _ = load_torch(path)
    entries = value.get("data") if isinstance(value, dict) else None
    chosen = choose(path, entries, index, default=0)
    images, labels = pair(path, chosen.entry)
    name = path.name.lower()
    known = {}
    if re.search("idm|bacon", name):
        known["partition"] = Guess(2, f"from its name; {FOUR}")
    elif re.search("_(dc|dsa|mtt|random|datadam)_", name):
        # This remains a guess, because an option of IDM and BACON names their files.
        known["partition"] = Guess(1, f"from its name; {FOUR}")
    if "datadam" in name:
        known["zca"] = Guess(False, "DataDAM whitens on some data sets", "doubtful")
    return Content(
        images=(images,),
        labels=(labels,),
        files=(path,),
        guesses=unsaid({}, **known),
        notes=chosen.notes,
        index=chosen.index,
        count=chosen.count,
        accuracies=accuracies.of_set(
            value.get("accs_all_exps"), chosen.index, chosen.count
        ),
    )


def best(path: Path, index: int | None) -> Content:
    """Read ``acc_{accuracy}.pkl`` of IDM and BACON, a pickle of (images, labels).

    The tensors were on a GPU; each image contains four smaller ones.
    """
    value, _ = load_torch(path)
    images, labels = pair(path, value)
    guesses = unsaid({}, partition=Guess(2, FOUR))
    return Content(images=(images,), labels=(labels,), files=(path,), guesses=guesses)


def idc(path: Path, index: int | None) -> Content:
    """Read ``data_best.pt`` of IDC and DREAM: (images, labels), pixels in [0, 1].

    Each image contains ``factor**2`` smaller ones; the factor is 2 except on ImageNet.
    Anybody may save pixels so; without the name, the factor is doubtful.
    """
    value, _ = load_torch(path)
    images, labels = pair(path, value)
    says = {"pixels": True, "zca": False}  # whitened images do not lie in [0, 1]
    named = path.name.startswith("data_best")
    reason = "IDC and DREAM keep four images in each"
    four = Guess(2, reason, "likely" if named else "doubtful")
    return Content(
        images=(images,),
        labels=(labels,),
        files=(path,),
        says=says,
        guesses=unsaid(says, partition=four),
    )


def tuple_(path: Path, index: int | None) -> Content:
    """Read ``torch.save([images, labels])`` of any tool."""
    value, _ = load_torch(path)
    images, labels = pair(path, value)
    return Content(
        images=(images,), labels=(labels,), files=(path,), guesses=unsaid({})
    )


def dd(path: Path, index: int | None) -> Content:
    """Read a list of steps (images, labels, learning rate) of Wang et al.

    Each step is a set; the last one is the default, as in DD-RobustBench.
    """
    value, _ = load_torch(path)
    chosen = choose(path, value, index, default=-1)
    step = chosen.entry
    if not isinstance(step, (list, tuple)) or len(step) < 3:
        raise DataError(
            f"{path}: a step is not (images, labels, learning rate); name another "
            "format with --from (dcbench list formats)"
        )
    images, labels = pair(path, step[:2])
    says = {"learning_rate": scalar(path, step[2])}
    return Content(
        images=(images,),
        labels=(labels,),
        files=(path,),
        says=says,
        guesses=unsaid(says),
        notes=chosen.notes,
        index=chosen.index,
        count=chosen.count,
    )


def mtt(path: Path, index: int | None) -> Content:
    """Read ``images_best.pt`` with ``labels_best.pt``, and DATM's ``lr_best.pt``.

    The user may name the folder or the file of images. The 50 images per class of Tiny
    ImageNet come in parts, ``images_best_0.pt`` to ``_4.pt``. With ZCA the images are
    whitened; ``images_zca_*.pt`` contains them as pixels.
    """
    path = file_of(path, "images_best.pt", "images_best_0.pt")
    paths, labels = [path], [beside(path, swapped(path), swapped(path, "zca_"))]
    if re.fullmatch(r"images_best_\d+\.pt", path.name):
        pieces = path.parent.glob("images_best_[0-9]*.pt")
        paths = sorted(pieces, key=lambda piece: int(piece.stem.rpartition("_")[2]))
        labels = [beside(piece, swapped(piece)) for piece in paths]
        labels = labels if all(labels) else [beside(path, "labels_best.pt")]
    given = [label for label in labels if label]
    if not given:
        raise DataError(f"{path}: no {swapped(path)} beside it; MTT writes both")
    shown = path.name.startswith("images_zca")
    says: dict[str, Any] = {"pixels": True, "zca": False} if shown else {}
    rate = beside(path, swapped(path, new="lr"), "lr_best.pt")
    known = {}
    if rate is None:
        known["learning_rate"] = Guess(
            None, "MTT learns one and does not save it", "doubtful"
        )
    content = of_files(paths, given, rate, says, **known)
    # After the whitening is undone, pixels may lie far outside [0, 1].
    return replace(content, beyond=1.0) if shown else content


def dc_bench(path: Path, index: int | None) -> Content:
    """Read DC-BENCH's ``*_images.pt`` with ``*_labels.pt``: K-means and random images.

    Images with ``normalize`` in their name are normalised; for others the values
    decide.
    """
    names = (swapped(path), swapped(path, "normalize_"), "labels.pt")
    labels = beside(path, *names)
    if labels is None:
        raise DataError(f"{path}: no {names[0]} beside it; DC-BENCH writes both")
    return of_files([path], [labels], None, {})


def dd_ranking(path: Path, index: int | None) -> Content:
    """Read a tensor of images, and the tensor of labels beside it if there is one.

    Images without labels are in the order of their classes, as in DD-Ranking. The
    labels of ``X.pt`` may be in ``X_labels.pt`` or ``labels.pt``, a learned rate in
    ``X_lr.pt`` or ``lr.pt``; a folder contains ``images.pt``.
    """
    path = file_of(path, "images.pt")
    names = [f"{path.stem}_{{}}.pt", "{}.pt"]
    labels = beside(path, swapped(path), *(name.format("labels") for name in names))
    rate = beside(path, *(name.format("lr") for name in names))
    return of_files([path], [labels] if labels else [], rate, {})


def folder(path: Path, index: int | None) -> Content:
    """Read one folder of image files per class, as SRe2L, RDED and others write.

    The folders have the names of the classes; see ``data.class_order``.
    """
    classes = image_folder.classes(path)
    files = [file for members in classes.values() for file in members]
    counts = [len(members) for members in classes.values()]
    indices = np.repeat(np.arange(len(classes), dtype=np.int64), counts)
    says = {"pixels": True, "zca": False}  # whitened images do not fit into bytes
    return Content(
        images=(image_folder.ImageFiles(files),),
        labels=(of_buffer("i8", indices.shape, indices.tobytes()),),
        files=tuple(files),
        class_names=tuple(map(printable, classes)),
        says=says,
        guesses=unsaid(says),
    )


READERS: dict[str, Reader] = {
    "vico": vico,
    "best": best,
    "mtt": mtt,
    "idc": idc,
    "tuple": tuple_,
    "dd": dd,
    "pair": dc_bench,
    "kip": kip,
    "dd_ranking": dd_ranking,
    "npz": npz,
    "dict": dictionary,
    "npy": npy,
    "safetensors": safetensors,
    "folder": folder,
}
SEVERAL = ("vico", "dd")  # formats whose files may hold several sets
