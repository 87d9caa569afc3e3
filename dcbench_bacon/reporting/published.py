"""Numbers of the literature, as printed there, each with its source and evaluation.

``published.csv`` holds one row a number: method, dataset, ipc, architecture, metric,
mean, std, source, evaluation, certainty. Names are typed as in dcbench, accuracies are
percent as printed. ``published_sources.toml`` says what the sources are, in order of
preference, and how the networks behind each number were trained.

- ``architecture`` is the network that was *trained on the set*: ``unstated`` where
  the table does not say and the text leaves it open, ``original`` for the network of
  the method's own paper (DD, LD, KIP), ``transfer`` for a mean over other networks.
  DM on Tiny ImageNet is ``ConvNetD4`` (its paper and DC-BENCH), whereas IDM and
  BACON used ``ConvNet``, three blocks deep, in the same table.
- ``metric`` is ``test_accuracy``; DC-BENCH instead prints three accuracies,
  ``test_accuracy_best_augmentation``, ``_mean_augmentation`` and ``_transfer``. Costs
  are ``seconds_per_step``, ``peak_gb`` and ``peak_gb_at_least`` (out of memory); they
  have no evaluation.
- ``evaluation`` is ``unknown`` where the source does not say, and where it quotes
  another number than the paper has.
- ``certainty`` is ``seen`` for what was read in the source or in a paper that quotes
  it, ``memory`` for what was not checked against either (value, deviation or both).
- ``ipc`` 0 means the whole training split.
- ``mtt`` holds the rows called MTT and those called TM (DC-BENCH, BACON's page): one
  method, two names. ``k_means`` holds the DC-BENCH rows printed as "K-Center", whose
  files lie in a folder ``Kmeans``. ``k_center`` has two kinds of rows: those of DC's
  paper, and the far higher ones that AutoPalette quotes from DM's.
- ``bacon`` is the recipe as released. Plug-in variants (``bacon+idm``, ``bacon+dm``)
  and copies of data sets (``cifar10-jpeg``) have no number of their own.

Left out: hours read by eye off a bar chart of the BACON repository (6 rows), rank
correlations of architecture search from DC-BENCH (7), the hard-label recovery and
improvement over random of DD-Ranking (36, differences of accuracies), and how many
GPUs MTT took (6). READMEs of three later commits of BACON hold changed cells alone.

Where sources differ the default is the method's own paper or repository; where none is
known, the first source of the TOML file that has the cell. ``sources`` returns all.
"""

import csv
import tomllib
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import msgspec
from msgspec import Struct

from dcbench_bacon.errors import UsageError, guess
from dcbench_bacon.protocol import Protocol

# Of one source, the first of these metrics that it has is compared.
ACCURACIES = ("test_accuracy", "test_accuracy_best_augmentation")
UNKNOWN = "unknown"  # of an evaluation that is not known, and of its protocol


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


class PublishedSource(Struct, frozen=True, forbid_unknown_fields=True):
    """Where numbers come from.

    Attributes:
        citation: in full.
        date: as exact as it is known.
        own: the methods whose own paper or repository this is.
        group: a name that it shares with other sources; empty for none.
        default: whether it is looked up unasked.
    """

    citation: str
    date: str
    own: tuple[str, ...] = ()
    group: str = ""
    default: bool = True


class PublishedEvaluation(Struct, frozen=True, forbid_unknown_fields=True):
    """How the networks behind a number were trained on the set, and which one counts.

    Attributes:
        title: in a few words.
        source: where that is stated.
        protocol: the family; see ``family``.
        selection: as of a protocol, or ``not_stated``.
        augmentation: as in a protocol; none where it is not stated.
        epochs: as the source counts them; none where they are not stated.
        teachers: the networks that label the images.
    """

    title: str
    source: str
    protocol: str
    selection: Literal["final", "best_val", "best_test", "not_stated"]
    augmentation: str | None = None
    epochs: int | None = None
    teachers: tuple[str, ...] = ()


class Sources(Struct, frozen=True, forbid_unknown_fields=True):
    """The content of ``published_sources.toml``.

    Attributes:
        sources: in order of preference.
        evaluations: by the name that rows have.
        families: keys of a protocol that make it one of a family.
        unregistered: names of methods and data sets that have no module here.
    """

    sources: dict[str, PublishedSource]
    evaluations: dict[str, PublishedEvaluation]
    families: dict[str, tuple[dict[str, Any], ...]]
    unregistered: dict[str, tuple[str, ...]]


def _read(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")


KNOWN = msgspec.convert(tomllib.loads(_read("published_sources.toml")), Sources)
SOURCES, EVALUATIONS = KNOWN.sources, KNOWN.evaluations
_RANK = {key: rank for rank, key in enumerate(SOURCES)}


@cache
def rows() -> tuple[PublishedNumber, ...]:
    """All printed numbers, in the order of the file."""
    read = csv.DictReader(_read("published.csv").splitlines())
    plain = [{**row, "std": row["std"] or None} for row in read]
    return msgspec.convert(plain, tuple[PublishedNumber, ...], strict=False)


@cache
def _by_cell() -> dict[tuple[str, str, int], tuple[PublishedNumber, ...]]:
    """Comparable accuracies of each cell, in order of preference."""
    cells: dict[tuple[str, str, int], list[PublishedNumber]] = {}
    for row in rows():
        if row.metric in ACCURACIES:
            cells.setdefault((row.method, row.dataset, row.ipc), []).append(row)
    return {cell: tuple(sorted(found, key=_order)) for cell, found in cells.items()}


def is_own(row: PublishedNumber) -> bool:
    """Whether a number comes from its method's own paper or repository."""
    return row.method in SOURCES[row.source].own


def _order(row: PublishedNumber) -> tuple[bool, int, bool, str, int]:
    """Own sources first; within a source a row that states its network."""
    return (
        not is_own(row),
        _RANK[row.source],
        row.architecture == "unstated",
        row.architecture,
        ACCURACIES.index(row.metric),
    )


def sources(method: str, dataset: str, ipc: int) -> tuple[PublishedNumber, ...]:
    """Every accuracy printed for a cell, in order of preference, of any network.

    Args:
        method: as typed; ``whole`` has the same numbers at every ``ipc``.
        dataset: as typed; a copy such as ``cifar10-jpeg`` has none.
        ipc: images per class.
    """
    key = (method.replace("-", "_"), dataset, 0 if method == "whole" else ipc)
    return _by_cell().get(key, ())


def named(source: str | None) -> list[str]:
    """The sources that a name stands for: one, those of a group, or the defaults.

    Raises:
        UsageError: there is no such source or group.
    """
    if source is None:
        return [key for key, each in SOURCES.items() if each.default]
    found = [key for key, each in SOURCES.items() if source in (key, each.group)]
    if source and found:
        return found
    groups = dict.fromkeys(each.group for each in SOURCES.values() if each.group)
    there = [*groups, *SOURCES]
    near = guess(source, there)
    raise UsageError(f"unknown source {source!r}.{near} There are: {', '.join(there)}")


def lookup(
    method: str, dataset: str, ipc: int, architecture: str, source: str | None = None
) -> PublishedNumber | None:
    """The printed accuracy that is shown beside a measurement, if there is one.

    One for the same network comes first, also before the method's own source for
    another network. Whether the two may be compared is said by ``agreement``.

    Args:
        method: as typed.
        dataset: as typed.
        ipc: images per class.
        architecture: the network trained on the set.
        source: a name of ``named``, instead of the order of preference.

    Raises:
        UsageError: there is no such source.
    """
    wanted = named(source)
    found = [row for row in sources(method, dataset, ipc) if row.source in wanted]
    if source is not None:  # the newest of a group, whatever method it is about
        found.sort(key=lambda row: wanted.index(row.source))
    same = [row for row in found if row.architecture == architecture]
    return next(iter(same or found), None)


def family(protocol: Protocol) -> str:
    """The family that an evaluation protocol of ours belongs to.

    Numbers of one family may be compared. Most protocols are a family of their own;
    under ``dc`` a method may bring its own learning rate, passes and augmentation.
    """
    for name, variants in KNOWN.families.items():
        for keys in variants:
            if all(getattr(protocol, key) == value for key, value in keys.items()):
                return name
    return protocol.name


def cite(key: str) -> str:
    """The full citation of a source, with its date."""
    return f"{SOURCES[key].citation} ({SOURCES[key].date})."
