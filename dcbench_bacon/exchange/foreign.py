"""From what a foreign file holds to a synthetic set: settle what it means, check it.

A claim of the user counts first, then what the file or its format says, then a guess.
A guess that matters is said aloud, with the option that mends it.
"""

import logging
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from dcbench_bacon import container, data
from dcbench_bacon.errors import UsageError
from dcbench_bacon.exchange.archives import damaged, sha256
from dcbench_bacon.exchange.content import Content, Guess
from dcbench_bacon.exchange.formats import FORMATS, Claims
from dcbench_bacon.exchange.importers import READERS, SEVERAL, guess
from dcbench_bacon.exchange.values import check_shapes, images_of, labels_of
from dcbench_bacon.registry import DATASETS
from dcbench_bacon.schema import MOST_PARTS, Cell, DatasetInfo
from dcbench_bacon.spec import SyntheticSet

logger = logging.getLogger(__name__)
OPTIONS = {
    "form": "--from",
    "dataset": "--dataset",
    "index": "--index",
    "partition": "--partition",
    "zca": "--zca or --no-zca",
    "pixels": "--pixels or --normalized",
    "statistics": "--statistics",
    "labels": "--labels",
    "learning_rate": "--learned-rate",
}
_DEFAULTS = {"partition": 1, "zca": False, "pixels": False, "labels": "stored"}


def read(path: Path, claims: Claims, root: Path | None = None) -> SyntheticSet:
    """Reads a synthetic set of any format.

    Args:
        path: a file, or a folder for the formats that take one.
        claims: what the user says about it.
        root: where data sets lie.

    Raises:
        DataError: it cannot be read, or is not what the format or the data set wants.
        UsageError: an option is missing or does not fit.
        RecordError: it is a damaged file of dcbench's own.
    """
    with damaged(path):
        form = claims.form or guess(path)
    if form == "dcbench":
        _check_claims(path, claims)
        return container.read(path)
    if form not in READERS:
        known = ", ".join(name for name, each in FORMATS.items() if each.reads)
        raise UsageError(f"--from {form}: not read; there are: {known}")
    if claims.index not in (None, 0, -1) and form not in SEVERAL:
        raise UsageError(f"{path}: --index {claims.index}: a {form} file holds one set")
    with damaged(path):
        content = READERS[form](path, claims.index)
    if claims.form is None:
        reason = Guess(form, "from its name and content")
        content = replace(content, guesses={"form": reason, **content.guesses})
    whitened = re.search("(?<!no)(?<!no[_-])zca", path.name.lower())
    if whitened and "zca" not in content.says:
        named = {**content.guesses, "zca": Guess(True, "from its name")}
        content = replace(content, guesses=named)
    return adopt(path, form, content, claims, root)


def _check_claims(path: Path, claims: Claims) -> None:
    """Refuses options that our own files answer themselves."""
    for key, option in OPTIONS.items():
        if key not in ("form", "dataset") and getattr(claims, key) is not None:
            raise UsageError(
                f"{path} is dcbench's own and says this itself; leave out {option}"
            )


def facts(name: str, root: Path | None) -> DatasetInfo:
    """The facts of a data set; its images are read only if they decide them."""
    module = data.find(name, root).module
    info: DatasetInfo | None = getattr(module, "INFO", None)
    return info or data.load(name, root).info


def dataset_of(path: Path, claims: Claims) -> tuple[str, Guess | None]:
    """The name of the data set that a file was made from.

    Raises:
        UsageError: neither the user nor the file's name says it.
    """
    if claims.dataset is not None:
        return claims.dataset, None
    absolute = path.absolute()
    names = sorted(DATASETS.names(), key=len, reverse=True)
    for part in (absolute.name, absolute.parent.name, absolute.parent.parent.name):
        for name in names:
            pattern = re.sub(r"(\d+)$", r"_\1(?!\\d)", name).replace("_", "[_-]?")
            if hasattr(DATASETS.module(name), "INFO") and re.search(
                pattern, part.lower()
            ):
                return name, Guess(name, f"from the name {part}")
    raise UsageError(
        f"{path} does not say which data set it was made from; name it with --dataset, "
        "such as --dataset cifar10"
    )


def adopt(
    path: Path, form: str, content: Content, claims: Claims, root: Path | None
) -> SyntheticSet:
    """Makes a synthetic set of a file's content.

    Args:
        path: as the user named it.
        form: the name of its format.
        content: what its reader found.
        claims: of the user.
        root: where data sets lie.

    Raises:
        DataError: the content is no set of that data set; says what is wrong with it
            and which option may mend it.
    """
    name, named = dataset_of(path, claims)
    info = facts(name, root)
    guesses = dict(content.guesses) | ({"dataset": named} if named else {})
    settled = _settle(claims, content, guesses)
    other = settled.get("statistics")
    statistics = facts(other, root) if other else info
    check_shapes(path, content, info)
    with damaged(path):
        images = images_of(path, content, settled, info, statistics)
        labels = labels_of(path, content, len(images), info, settled["labels"])
    partition = int(settled["partition"])
    if not 1 <= partition <= MOST_PARTS or info.size % partition:
        raise UsageError(
            f"{path}: --partition {partition}: it must divide the {info.size} pixels "
            f"of {info.name} and be at most {MOST_PARTS}"
        )
    guesses = {k: g for k, g in guesses.items() if getattr(claims, k) is None}
    ipc = max(1, len(images) // info.classes)
    provenance = {
        "cell": msgspec.to_builtins(Cell(f"{form}-file", info.name, ipc)),
        "dataset": msgspec.to_builtins(info),
        "source": _source(form, content, claims, guesses),
        "zca": {"assumed": "MTT"} if settled["zca"] else None,
        "learning_rate": settled.get("learning_rate"),
    }
    synthetic = SyntheticSet(images, labels, partition, provenance)
    with damaged(path):
        container.check(synthetic)
    _tell(path, content, guesses)
    return synthetic


def _source(
    form: str, content: Content, claims: Claims, guesses: Mapping[str, Guess]
) -> dict[str, Any]:
    """Which files a set is from, what was said about them, and what was guessed."""
    given = {key: getattr(claims, key) for key in OPTIONS}
    return {
        "files": [file.name for file in content.files[:10]],
        "sha256": sha256(content.files),
        "format": form,
        "given": {key: value for key, value in given.items() if value is not None},
        "guessed": {key: guess.value for key, guess in guesses.items()},
    }


def _tell(path: Path, content: Content, guesses: Mapping[str, Guess]) -> None:
    """Says what was guessed and what else is worth knowing."""
    for key, (value, reason) in guesses.items():
        name = {"form": "format", "learning_rate": "learning rate"}.get(key, key)
        shown = {"True": "yes", "False": "no", "None": "unknown"}.get(str(value), value)
        logger.warning(
            "%s: %s %s is a guess (%s); state it with %s",
            path,
            name,
            shown,
            reason,
            OPTIONS[key],
        )
    for note in content.notes:
        logger.warning("%s: %s", path, note)


def _settle(
    claims: Claims, content: Content, guesses: Mapping[str, Guess]
) -> dict[str, Any]:
    """What holds for each thing that a file may leave open."""
    settled: dict[str, Any] = dict(_DEFAULTS)
    settled |= {key: guess.value for key, guess in guesses.items()}
    settled |= content.says
    claimed = {key: getattr(claims, key) for key in OPTIONS}
    return settled | {key: value for key, value in claimed.items() if value is not None}


def caution(path: Path, synthetic: SyntheticSet, rate: float) -> None:
    """Says what makes an evaluation of a set unlike that of its authors.

    Args:
        path: of the set.
        synthetic: the set.
        rate: the learning rate that the protocol trains with.
    """
    if (synthetic.provenance.get("zca") or {}).get("assumed"):
        logger.warning(
            "%s: its images are ZCA-whitened, and so are those of the test, in MTT's "
            "way; whoever whitened them in another way, as KIP does, gets too low an "
            "accuracy; if they are not whitened, say so with --no-zca",
            path,
        )
    learned = synthetic.provenance.get("learning_rate")
    if learned is not None and not math.isclose(learned, rate, rel_tol=1e-6):
        logger.warning(
            "%s: a learning rate of %.6g was learned with the images, the protocol "
            "trains with %g; to use it: --set protocol.learning_rate=%.6g",
            path,
            learned,
            rate,
            learned,
        )
