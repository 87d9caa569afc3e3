"""Numbers of the literature, as printed there, each with its source.

``published.csv`` holds one row a number: method, dataset, ipc, architecture, metric,
mean, std, source. Names are typed as in dcbench, accuracies are percent as printed.

- ``architecture`` is the network that was *trained on the set*: ``unstated`` where
  the table does not say and the text leaves it open, ``original`` for the network of
  the method's own paper (DD, LD, KIP), ``transfer`` for a mean over other networks.
  DM on Tiny ImageNet is ``ConvNetD4`` (its paper and DC-BENCH), whereas IDM and
  BACON used ``ConvNet``, three blocks deep, in the same table.
- ``metric`` is ``test_accuracy``; DC-BENCH instead prints three accuracies,
  ``test_accuracy_best_augmentation``, ``_mean_augmentation`` and ``_transfer``. Costs
  are ``seconds_per_step``, ``peak_gb`` and ``peak_gb_at_least`` (out of memory).
- ``ipc`` 0 means the whole training split.
- ``mtt`` holds the rows called MTT and those called TM (DC-BENCH, BACON's page): one
  method, two names. ``k_means`` holds the DC-BENCH rows printed as "K-Center", whose
  files lie in a folder ``Kmeans``; they are far above other rows of that name.
- ``bacon`` is the recipe as released. Plug-in variants (``bacon+idm``, ``bacon+dm``)
  and copies of data sets (``cifar10-jpeg``) have no number of their own.

Left out: hours read by eye off a bar chart of the BACON repository (6 rows), rank
correlations of architecture search from DC-BENCH (7), the hard-label recovery and
improvement over random of DD-Ranking (36, differences of accuracies), and how many
GPUs MTT took (6). READMEs of three later commits of BACON hold changed cells alone.

Where sources differ the default is the first of ``SOURCES`` that has the cell: the
newest comparison by BACON's authors, then a method's own README, then others.
``sources`` returns all of them.
"""

import csv
from functools import cache
from importlib.resources import files

from msgspec import Struct

from dcbench_bacon.errors import UsageError

# Of one source, the first of these metrics that it has is compared.
ACCURACIES = ("test_accuracy", "test_accuracy_best_augmentation")


class Published(Struct, frozen=True):
    """One printed number; accuracies and deviations are percent."""

    method: str
    dataset: str
    ipc: int
    architecture: str
    metric: str
    mean: float
    std: float | None
    source: str


class Source(Struct, frozen=True):
    """Where numbers come from; ``default`` sources are looked up unasked."""

    citation: str
    date: str
    default: bool = True


# In order of preference.
SOURCES = {
    "bacon-readme-2025": Source(
        "BACON, README of the authors' repository at commit 1b7ee8d; SVHN, CIFAR-10, "
        "CIFAR-100 and Tiny ImageNet for DM, IDM and BACON, no deviations",
        "2025-05-14",
    ),
    "bacon-page-2025": Source(
        "BACON, project page, Table 1 (four data sets). Quotes MTT from DC-BENCH's "
        "average over augmentations, below MTT's own numbers; DC CIFAR-100 IPC 10 "
        "and DSA CIFAR-10 IPC 10 differ from their READMEs",
        "2025-04",
    ),
    "bacon-page-2024": Source(
        "BACON, project page, Table 1 (six data sets). DM on MNIST at IPC 1 and 50 "
        "equals the Herding row; DSA Fashion-MNIST IPC 10 differs from its README",
        "2024-12",
    ),
    "dc-readme": Source(
        "Zhao, Mopuri and Bilen, Dataset Condensation with Gradient Matching, ICLR "
        "2021, README of VICO-UoE/DatasetCondensation",
        "2021",
    ),
    "dsa-readme": Source(
        "Zhao and Bilen, Dataset Condensation with Differentiable Siamese "
        "Augmentation, ICML 2021, README of VICO-UoE/DatasetCondensation",
        "2021",
    ),
    "dm-readme": Source(
        "Zhao and Bilen, Dataset Condensation with Distribution Matching, WACV 2023, "
        "README of VICO-UoE/DatasetCondensation",
        "2023",
    ),
    "idc-readme": Source(
        "Kim et al., Dataset Condensation via Efficient Synthetic-Data "
        "Parameterization, ICML 2022, README of "
        "snu-mllab/Efficient-Dataset-Condensation",
        "2022",
    ),
    "dc-bench": Source(
        "Cui et al., DC-BENCH: Dataset Condensation Benchmark, NeurIPS 2022, "
        "leaderboard, best of its evaluation augmentations",
        "2022-12",
    ),
    "ncfm": Source(
        "Wang et al., Dataset Distillation with Neural Characteristic Function, CVPR "
        "2025, Table 1; rows of other methods quote their papers",
        "2025",
    ),
    "infoutil": Source("InfoUtil, Table 1, quoting each method's paper", "2025"),
    "autopalette": Source("AutoPalette, Table 1, quoting each method's paper", "2024"),
    "ncfm-table4": Source(
        "Wang et al., Dataset Distillation with Neural Characteristic Function, CVPR "
        "2025, Table 4: sets made with ConvNet, or with ConvNetBN where the network "
        "tested has batch normalization",
        "2025",
    ),
    "beard": Source(
        "BEARD, clean accuracy of one network, retrained by BACON's authors", "2024"
    ),
    "edc-slides": Source(
        "EDC: Elucidating the Design Space of Dataset Condensation, NeurIPS 2024, "
        "slides; soft labels, ResNet-18 with batch normalization",
        "2024",
    ),
    "bacon-readme-2025-04": Source(
        "BACON, README at commit bbae75e, cells changed there", "2025-04-11"
    ),
    "bacon-readme-2024-05-14": Source(
        "BACON, README at commit 4db0233, cells changed there", "2024-05-14"
    ),
    "bacon-readme-2024-05-07": Source(
        "BACON, README at commit 59aea7a, cells changed there", "2024-05-07"
    ),
    "bacon-readme-2024-04": Source(
        "BACON, first README at commit eb33464", "2024-04-08"
    ),
    "ncfm-table3": Source(
        "Wang et al., Dataset Distillation with Neural Characteristic Function, CVPR "
        "2025, Table 3: time and memory on one A100 of 80 GB",
        "2025",
    ),
    "ncfm-table4-doubtful": Source(
        "As ncfm-table4; DSA, MTT and KIP at IPC 10, printed with one and the same "
        "value for AlexNet and ResNet18: a copying error, never a default",
        "2025",
        default=False,
    ),
}
_RANK = {key: rank for rank, key in enumerate(SOURCES)}


@cache
def rows() -> tuple[Published, ...]:
    """All printed numbers, in the order of the file."""
    text = (files("dcbench_bacon") / "published.csv").read_text(encoding="utf-8")
    return tuple(
        Published(
            method=row["method"],
            dataset=row["dataset"],
            ipc=int(row["ipc"]),
            architecture=row["architecture"],
            metric=row["metric"],
            mean=float(row["mean"]),
            std=float(row["std"]) if row["std"] else None,
            source=row["source"],
        )
        for row in csv.DictReader(text.splitlines())
    )


@cache
def _by_cell() -> dict[tuple[str, str, int], tuple[Published, ...]]:
    """Comparable accuracies of each cell, in order of preference."""
    cells: dict[tuple[str, str, int], list[Published]] = {}
    for row in rows():
        if row.metric in ACCURACIES:
            cells.setdefault((row.method, row.dataset, row.ipc), []).append(row)
    return {cell: tuple(sorted(found, key=_order)) for cell, found in cells.items()}


def _order(row: Published) -> tuple[int, bool, str, int]:
    """By source; within one, a row that states its network comes first."""
    return (
        _RANK[row.source],
        row.architecture == "unstated",
        row.architecture,
        ACCURACIES.index(row.metric),
    )


def sources(method: str, dataset: str, ipc: int) -> tuple[Published, ...]:
    """Every accuracy printed for a cell, in order of preference, of any network.

    Args:
        method: as typed; ``whole`` has the same numbers at every ``ipc``.
        dataset: as typed; a copy such as ``cifar10-jpeg`` has none.
        ipc: images per class.
    """
    key = (method.replace("-", "_"), dataset, 0 if method == "whole" else ipc)
    return _by_cell().get(key, ())


def check_source(source: str | None) -> None:
    """Makes sure that a source is one of ``SOURCES``, if it is given.

    Raises:
        UsageError: there is no such source.
    """
    if source is not None and source not in SOURCES:
        raise UsageError(f"unknown source {source!r}; there are: {', '.join(SOURCES)}")


def lookup(
    method: str, dataset: str, ipc: int, architecture: str, source: str | None = None
) -> Published | None:
    """The printed accuracy that a measurement is compared with, if there is one.

    A row whose network is ``unstated`` counts for ``ConvNet`` and ``ConvNetD4``, the
    field's default networks, and for no other.

    Args:
        method: as typed.
        dataset: as typed.
        ipc: images per class.
        architecture: the network trained on the set.
        source: a key of ``SOURCES``, instead of the order of preference.

    Raises:
        UsageError: there is no such source.
    """
    check_source(source)
    accepted = {architecture}
    if architecture in ("ConvNet", "ConvNetD4"):
        accepted.add("unstated")
    for row in sources(method, dataset, ipc):
        wanted = SOURCES[row.source].default if source is None else row.source == source
        if wanted and row.architecture in accepted:
            return row
    return None


def cite(key: str) -> str:
    """The full citation of a source, with its date."""
    return f"{SOURCES[key].citation} ({SOURCES[key].date})."
