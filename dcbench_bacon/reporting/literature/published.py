"""Numbers of the literature, as printed there, each with its source and evaluation.

``published.csv`` has one row per number: method, dataset, ipc, architecture, metric,
mean, std, source, evaluation, certainty, arm. Names are spelled as in dcbench,
accuracies are percent as printed. ``published_sources.toml`` lists the sources, in
order of preference, and states how the networks behind each number were trained.

- ``architecture`` is the network that was *trained on the set*: ``unstated`` where
  neither table nor text names it, ``original`` for the network of the method's own
  paper (DD, LD, KIP), ``transfer`` for a mean over other networks.
  DM on Tiny ImageNet is ``ConvNetD4`` (its paper and DC-BENCH), whereas IDM and
  BACON used ``ConvNet``, three blocks deep, in the same table.
- ``metric`` is ``test_accuracy``; DC-BENCH instead prints three accuracies,
  ``test_accuracy_best_augmentation``, ``_mean_augmentation`` and ``_transfer``. Costs
  are ``seconds_per_step``, ``peak_gb`` and ``peak_gb_at_least`` (out of memory); they
  have no evaluation.
- ``evaluation`` is ``unknown`` where the source does not state it, and where the source
  quotes another number than the paper has.
- ``certainty`` is ``seen`` for a number that was read in the source or in a paper that
  quotes it, ``memory`` for one that was not checked against either (value, deviation or
  both).
- ``ipc`` 0 means the whole training split.
- ``arm`` says what an arm of an ablation changes; it is empty for the number of a
  method. Arms are printed in long tables and compared with nothing.
- ``architecture`` of the decoupled methods is the network with a first convolution for
  small images (``ResNet18BN``) up to 64 pixels, and that of torchvision or timm on
  ImageNet and its subsets.
- ``mtt`` has the rows called MTT and those called TM (DC-BENCH, BACON's page), which
  are one method. ``k_means`` has the DC-BENCH rows printed as "K-Center", whose files
  lie in a folder ``Kmeans``. ``k_center`` has two kinds of rows: those of DC's paper,
  and the far higher ones that AutoPalette quotes from DM's.
- ``bacon`` is the recipe as released. Plug-in variants (``bacon+idm``, ``bacon+dm``)
  and copies of data sets (``cifar10-jpeg``) have no number of their own.

These numbers are left out: hours read by eye off a bar chart of the BACON repository (6
rows), rank correlations of architecture search from DC-BENCH (7), the hard-label
recovery and improvement over random of DD-Ranking (36, differences of accuracies), and
the number of GPUs that MTT took (6). Of the READMEs of three later commits of BACON
there are only the cells that changed.

Where sources differ, the default is the method's own paper or repository; if that is
not known, it is the first source of the TOML file that has the cell. ``sources``
returns all.
"""

import csv
import tomllib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import msgspec
from msgspec import Struct

from dcbench_bacon.errors import unknown
from dcbench_bacon.protocol import Protocol
from dcbench_bacon.reporting.literature.metrics import ACCURACIES as ACCURACIES
from dcbench_bacon.reporting.literature.metrics import PER_AUGMENTATION, metrics_of

UNKNOWN = "unknown"  # name of an evaluation that is not known, and of its protocol


class PublishedNumber(Struct, frozen=True):
    """One printed number; accuracies and deviations are percent."""

    method: str
    dataset: str
    ipc: int
    architecture: str
    metric: str
    mean: float
    std: float | None
    source: str
    evaluation: str
    certainty: Literal["seen", "memory"]
    arm: str = ""


class PublishedSource(Struct, frozen=True, forbid_unknown_fields=True):
    """A source of published numbers.

    Attributes:
        citation: the full citation.
        date: the date, as exactly as it is known.
        own: the methods whose own paper or repository this is.
        group: a name that the source shares with others; empty for none.
        default: whether the source is used without being named.
    """

    citation: str
    date: str
    own: tuple[str, ...] = ()
    group: str = ""
    default: bool = True


class PublishedEvaluation(Struct, frozen=True, forbid_unknown_fields=True):
    """The evaluation behind a published number.

    Attributes:
        title: a description in a few words.
        source: where the evaluation is described.
        protocol: the family of the protocol; see ``family``.
        selection: the pass that counts, as in a protocol, or ``not_stated``.
        augmentation: augmentation as in a protocol; None if it is not stated.
        epochs: epochs that the source's loop makes; None if they are not stated.
        teachers: the networks that label the images.
    """

    title: str
    source: str
    protocol: str
    selection: Literal["final", "best_val", "best_test", "not_stated"]
    augmentation: str | None = None
    epochs: int | None = None
    teachers: tuple[str, ...] = ()


class Unregistered(Struct, frozen=True, forbid_unknown_fields=True):
    """Names with published numbers that dcbench has no module for.

    Attributes:
        methods: printed names of methods by name.
        datasets: printed names of data sets by name.
    """

    methods: dict[str, str]
    datasets: dict[str, str]

    @property
    def titles(self) -> dict[str, str]:
        """Return all printed names."""
        return self.methods | self.datasets


class Sources(Struct, frozen=True, forbid_unknown_fields=True):
    """The content of ``published_sources.toml``.

    Attributes:
        sources: sources by name, in order of preference.
        evaluations: evaluations by the name in ``published.csv``.
        families: by name of a family, the values that put a protocol into it.
        unregistered: the names that dcbench has no module for.
        networks: the papers' names of networks, for tables with a column per network.
        order: the names of data sets, methods and networks in the order of tables, by
            column.
    """

    sources: dict[str, PublishedSource]
    evaluations: dict[str, PublishedEvaluation]
    families: dict[str, tuple[dict[str, Any], ...]]
    unregistered: Unregistered
    networks: dict[str, str]
    order: dict[Literal["dataset", "method", "architecture"], tuple[str, ...]]


def _read(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")


KNOWN = msgspec.convert(tomllib.loads(_read("published_sources.toml")), Sources)
SOURCES, EVALUATIONS = KNOWN.sources, KNOWN.evaluations
NETWORKS = KNOWN.networks
_RANK = {key: rank for rank, key in enumerate(SOURCES)}


@cache
def rows() -> tuple[PublishedNumber, ...]:
    """Return all published numbers, in the order of the file."""
    read = csv.DictReader(_read("published.csv").splitlines(), restval="")
    values = [{**row, "std": row["std"] or None} for row in read]
    return msgspec.convert(values, tuple[PublishedNumber, ...], strict=False)


@cache
def _by_cell() -> dict[tuple[str, str, int], tuple[PublishedNumber, ...]]:
    """Return the accuracies of each cell, in order of preference."""
    cells: dict[tuple[str, str, int], list[PublishedNumber]] = {}
    for row in rows():
        accuracies = (*ACCURACIES, *PER_AUGMENTATION.values())
        if row.metric in accuracies and not row.arm:
            cells.setdefault((row.method, row.dataset, row.ipc), []).append(row)
    return {cell: tuple(sorted(numbers, key=_order)) for cell, numbers in cells.items()}


def is_own(row: PublishedNumber) -> bool:
    """Return whether a number comes from its method's own paper or repository."""
    return row.method in SOURCES[row.source].own


_NETWORK_RANK = {name: i for i, name in enumerate(KNOWN.order["architecture"])}


def _order(row: PublishedNumber) -> tuple[bool, int, bool, int, str, int]:
    """Return a key that sorts own sources first, and then rows with a network."""
    return (
        not is_own(row),
        _RANK[row.source],
        row.architecture == "unstated",
        _NETWORK_RANK.get(row.architecture, len(_NETWORK_RANK)),
        row.architecture,
        row.metric != ACCURACIES[0],
    )


def sources(
    method: str, dataset: str, ipc: int, metrics: Sequence[str] = ACCURACIES
) -> tuple[PublishedNumber, ...]:
    """Return every published accuracy of a cell, in order of preference.

    Args:
        method: name of the method as typed; ``whole`` has the same numbers at every
            ``ipc``.
        dataset: name of the data set as typed; a copy such as ``cifar10-jpeg`` has no
            numbers.
        ipc: images per class.
        metrics: the metrics that count.

    Returns:
        Accuracies of any network.
    """
    key = (method.replace("-", "_"), dataset, 0 if method == "whole" else ipc)
    return tuple(row for row in _by_cell().get(key, ()) if row.metric in metrics)


def named(source: str | None) -> list[str]:
    """Return the sources with a name: one, those of a group, or the defaults.

    Raises:
        UsageError: there is no such source or group; the message lists them.
    """
    if source is None:
        return [key for key, citation in SOURCES.items() if citation.default]
    keys = [key for key, citation in SOURCES.items() if source in (key, citation.group)]
    if source and keys:
        return keys
    groups = dict.fromkeys(
        citation.group for citation in SOURCES.values() if citation.group
    )
    raise unknown("source", source, [*groups, *SOURCES])


def lookup(
    method: str,
    dataset: str,
    ipc: int,
    architecture: str,
    source: str | None = None,
    family: str = "",
) -> PublishedNumber | None:
    """Return the published accuracy that is shown beside a measurement, if any.

    An accuracy of the same network comes first, also before the method's own source
    for another network. ``agreement`` decides whether the two may be compared.

    Args:
        method: name of the method as typed.
        dataset: name of the data set as typed.
        ipc: images per class.
        architecture: the network trained on the set.
        source: a name of ``named``; None for the order of preference.
        family: the family of the measurement's protocol, whose own metric comes first.

    Raises:
        UsageError: there is no such source.
    """
    wanted = named(source)
    for metrics in dict.fromkeys((metrics_of(family), ACCURACIES)):
        rows_of_method = sources(method, dataset, ipc, metrics)
        numbers = [row for row in rows_of_method if row.source in wanted]
        if source is not None:  # the newest of a group, whatever method it is about
            numbers.sort(key=lambda row: wanted.index(row.source))
        same = [row for row in numbers if row.architecture == architecture]
        if numbers:
            return (same or numbers)[0]
    return None


def family(protocol: Protocol) -> str:
    """Return the family that a protocol belongs to.

    Numbers of one family may be compared. Most protocols are a family of their own;
    under ``dc`` a method may have its own learning rate, epochs and augmentation. A
    label regime or a budget of updates is asked for here alone, and is another family.
    """
    if protocol.labels != "own" or protocol.updates:
        return protocol.title
    for name, variants in KNOWN.families.items():
        for keys in variants:
            if all(getattr(protocol, key) == value for key, value in keys.items()):
                return name
    return protocol.name


def cite(key: str) -> str:
    """Return the full citation of a source, with its date."""
    return f"{SOURCES[key].citation} ({SOURCES[key].date})."
