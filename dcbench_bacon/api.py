"""The face of dcbench for plug-ins and notebooks.

Modules of methods and data sets import the contract's types from here, and what reads
images from here as well. Notebooks use the functions, which do what the commands do:

    >>> from dcbench_bacon import api
    >>> api.evaluate((images, labels), "cifar10")  # doctest: +SKIP

Everything named in ``__all__`` stays as it is within a major version.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from dcbench_bacon.contract import Learner, Method, Reference, Run, Settings, State
from dcbench_bacon.data.dataset import Dataset, RawSplit, as_set
from dcbench_bacon.data.files.image_files import decode_images, sides
from dcbench_bacon.data.files.listing import LabelledFiles
from dcbench_bacon.data.files.natural_order import left_behind, visible_folders
from dcbench_bacon.data.files.source_files import (
    MissingDataError,
    damaged,
    locate,
    opened,
)
from dcbench_bacon.data.in_memory import statistics
from dcbench_bacon.data.splits import ResidentSplit, Split
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.errors import (
    DataError,
    DcbenchError,
    DivergedError,
    RecordError,
    UsageError,
)
from dcbench_bacon.exchange.files_of_sets import draw, read_set, write_set
from dcbench_bacon.reporting.frames import published, records, table
from dcbench_bacon.runtime.disk.files import printable
from dcbench_bacon.schema import Cell, DatasetInfo

__all__ = [
    "Cell",
    "DataError",
    "Dataset",
    "DatasetInfo",
    "DcbenchError",
    "DivergedError",
    "LabelledFiles",
    "Learner",
    "Method",
    "MissingDataError",
    "RawSplit",
    "RecordError",
    "Reference",
    "ResidentSplit",
    "Run",
    "Settings",
    "Split",
    "State",
    "SyntheticSet",
    "UsageError",
    "as_set",
    "damaged",
    "dataset",
    "decode_images",
    "distill",
    "draw",
    "evaluate",
    "left_behind",
    "locate",
    "opened",
    "own_dataset",
    "printable",
    "published",
    "read_set",
    "records",
    "sides",
    "statistics",
    "table",
    "visible_folders",
    "write_set",
]


def dataset(
    name: str,
    *,
    data_root: str | Path | None = None,
    device: str = "auto",
    download: bool = False,
) -> Dataset:
    """Return a data set, from the cache of decoded images where it can.

    Args:
        name: as typed at the prompt: ``cifar10``, or ``folder:PATH``.
        data_root: where data sets lie; ``DCBENCH_DATA`` by default.
        device: where its images go: ``auto`` (a GPU if there is one), ``cpu``,
            ``cuda`` or ``cuda:N``.
        download: fetch what is missing.

    Raises:
        DataError: a file is missing or damaged; says which, and the remedy.
        UsageError: there is no such data set or device.
    """
    from dcbench_bacon.data import loading
    from dcbench_bacon.runtime.compute.devices import choose_device

    root = None if data_root is None else Path(data_root)
    return loading.load(name, root, choose_device(device), download=download)


def own_dataset(
    train: tuple[Any, Any],
    test: tuple[Any, Any],
    *,
    name: str = "own",
    class_names: Sequence[str] = (),
) -> Dataset:
    """Return a data set of images in memory.

    Args:
        train: uint8 images (n, c, h, w), square and of 1 or 3 channels, and labels (n,)
            from 0; tensors or NumPy arrays, which are copied.
        test: the same.
        name: in records and tables: small letters, digits and ``._-``. Recipes have
            no table for it, so that their defaults apply.
        class_names: one per class; the numbers of the classes by default.

    Returns:
        The data set; mean and standard deviation are those of the train pixels.

    Raises:
        DataError: shapes, types or labels do not fit each other; says the remedy.
        UsageError: the name cannot be used.
    """
    from dcbench_bacon.data import in_memory

    return in_memory.dataset_of(train, test, name, tuple(class_names))


def distill(
    method: str,
    dataset: str | Dataset,
    ipc: int,
    *,
    seed: int = 0,
    preset: str = "paper",
    device: str = "auto",
    data_root: str | Path | None = None,
    progress: bool = True,
    **settings: Any,
) -> SyntheticSet:
    """Return a distilled set; no file is written.

    It is the set of ``dcbench run`` for this cell and recipe, bit for bit on a CPU with
    as many threads.

    Args:
        method: as typed at the prompt, such as ``dm`` or ``bacon+idm``.
        dataset: a name, or what ``dataset`` or ``own_dataset`` returned.
        ipc: images per class, at least 1.
        seed: which repetition, from 0; every random stream derives from it.
        preset: ``paper``, ``quick`` or ``demo``.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        data_root: where data sets lie; ``DCBENCH_DATA`` by default.
        progress: show progress on standard error.
        settings: keys of the method's recipe, as ``--set`` takes them: ``steps=500``.

    Raises:
        DataError: the data set is missing or damaged.
        DivergedError: a loss or an image stopped being finite.
        UsageError: a name, a key or a value is wrong.
    """
    from dcbench_bacon.recipes.keywords import request_from
    from dcbench_bacon.running import in_process

    if ipc < 1 or seed < 0:
        raise UsageError(f"ipc {ipc}, seed {seed}: give an ipc from 1, a seed from 0")
    if foreign := [key for key in settings if key.startswith("protocol.")]:
        raise UsageError(f"{foreign[0]} is of an evaluation; give it to evaluate")
    loaded = _loaded(dataset, data_root, device)
    request = request_from(preset, "dc", (), settings)
    context = in_process.context_of(loaded.train.device, shown=progress)
    return in_process.distill(method, loaded, ipc, seed, request, context)


def evaluate(
    synthetic: SyntheticSet | tuple[Any, Any],
    dataset: str | Dataset,
    *,
    architectures: str | Iterable[str] = (),
    protocol: str | None = None,
    regime: str | None = None,
    preset: str = "paper",
    as_method: str | None = None,
    pixels: bool | None = None,
    partition: int = 1,
    zca: bool = False,
    seed: int = 0,
    device: str = "auto",
    data_root: str | Path | None = None,
    progress: bool = True,
    **settings: Any,
) -> pd.DataFrame:
    """Return what fresh networks reach, trained on a set and tested on real images.

    The numbers are those of ``dcbench evaluate`` for the same set; no file is written.

    Args:
        synthetic: a set, or its images (n, c, h, w) and labels: class indices (n,), or
            rows of probabilities (n, classes); tensors or NumPy arrays.
        dataset: a name, or what ``dataset`` or ``own_dataset`` returned.
        architectures: networks, or pools of them; those of the protocol by default.
        protocol: how they are trained; ``dcbench list protocols`` names all. ``dc`` by
            default, or ``common`` with a regime.
        regime: the labels: ``hard``, ``soft`` or ``renewed``, as ``--regime``.
        preset: ``paper``, ``quick`` or ``demo``.
        as_method: judge the set as this method's sets are judged, which may augment
            otherwise; by default the method that made it, where that is known.
        pixels: of a pair: whether float images are pixels, in [0, 1] or 0 to 255, and
            not normalised; by default told from their range, with a warning.
        partition: of a pair: each image holds ``partition**2`` smaller ones.
        zca: of a pair: its images are ZCA-whitened.
        seed: of a pair: which networks judge it, from 0. A set has a seed of its own.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        data_root: where data sets lie; ``DCBENCH_DATA`` by default.
        progress: show progress on standard error.
        settings: keys of the protocol, such as ``epochs=300``.

    Returns:
        A row per network: ``architecture``, ``augmentation`` (only where the protocol
        has several), ``trial``, ``accuracy`` in percent, ``seconds``.

    Raises:
        DataError: the set does not fit the data set; says the remedy.
        DivergedError: a loss stopped being finite.
        UsageError: a name, a key or a value is wrong.
    """
    from dcbench_bacon.exchange import cautions, tensors
    from dcbench_bacon.networks import pools
    from dcbench_bacon.recipes import overlay, protocols
    from dcbench_bacon.recipes.keywords import request_from
    from dcbench_bacon.running import in_process, saved_sets

    names = (architectures,) if isinstance(architectures, str) else architectures
    keys = {f"protocol.{key}": value for key, value in settings.items()}
    request = request_from(preset, protocol, tuple(names), keys, regime)
    pools.check_architectures(request.architectures)
    overlay.check_overrides(request.overrides, [])
    loaded = _loaded(dataset, data_root, device)
    if isinstance(synthetic, SyntheticSet):
        if pixels is not None or partition != 1 or zca or seed:
            raise UsageError(
                "a SyntheticSet says pixels, partition, zca and seed itself; leave "
                "them out, or give its images and labels as a pair"
            )
    else:
        synthetic = tensors.set_of(
            *synthetic,
            loaded.info,
            pixels=pixels,
            partition=partition,
            zca=zca,
            seed=seed,
        )
    where, here = "the set", loaded.train.device
    cell, made_for = saved_sets.origin(where, synthetic)
    opened = saved_sets.beside(where, synthetic.to(here), cell, made_for, loaded)
    judging = saved_sets.judging(opened, request, as_method)
    context = in_process.context_of(here, shown=progress)
    if request.protocol == protocols.PUBLISHED:
        context.tell(f"{where}: {judging.line}")
    if judging.recipe.protocol.held_out:
        opened = saved_sets.held_out(where, opened)
    cautions.caution(where, opened.synthetic, judging.recipe.protocol)
    results = in_process.evaluate(opened, judging.recipe.protocol, context)
    columns = ["architecture", "augmentation", "trial", "accuracy", "seconds"]
    rows = [[getattr(result, name) for name in columns] for result in results]
    frame = pd.DataFrame(rows, columns=columns)
    frame["accuracy"] *= 100
    several = frame["augmentation"].notna().any()
    return frame if several else frame.drop(columns="augmentation")


def _loaded(given: str | Dataset, data_root: str | Path | None, device: str) -> Dataset:
    """Return the data set on the device."""
    if not isinstance(given, Dataset):
        return dataset(given, data_root=data_root, device=device)
    from dcbench_bacon.runtime.compute.devices import choose_device

    where = choose_device(device)
    return replace(given, train=given.train.to(where), test=given.test.to(where))
