"""Which class of a data set each class of a file is: by name, number or statement.

Pairing by position alone is right only by luck: folders named zero to nine sort as
eight, five, four, and '10' sorts before '2'.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dcbench_bacon.errors import DataError, UsageError

BY_INDEX = "index"  # of --classes: each name holds the number of its class
IN_ORDER = "order"  # the same: classes stand in the data set's order, as WordNet ids do
# What else people call the classes of the data sets here, as `_plain` writes names.
_SYNONYMS = (
    *(("airplane", "plane", "aeroplane"), ("automobile", "car", "auto")),
    *(("tshirttop", "tshirt", "top"), ("trouser", "trousers", "pants")),
    *(("sandal", "sandals"), ("sneaker", "sneakers"), ("bag", "handbag")),
    *(("ankleboot", "boot", "ankleboots"), ("pullover", "sweater")),
    *(
        (str(number), word)
        for number, word in enumerate(
            ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight")
        )
    ),
    ("9", "nine"),
)
_FIRST = {name: names[0] for names in _SYNONYMS for name in names}


class Order(NamedTuple):
    """Where the classes of a file stand in the data set.

    Attributes:
        places: the data set's class of each of the file's, in the file's order.
        how: ``in order``, ``by name``, ``by number`` or ``as stated``.
    """

    places: tuple[int, ...]
    how: str


def match(
    path: Path, names: Sequence[str], known: Sequence[str], stated: Sequence[str] = ()
) -> Order:
    """Return the data set's class of each of a file's classes.

    Args:
        path: of the file, for messages.
        names: of the file's classes, in its order; nothing where it has none, and its
            labels are numbers.
        known: of the data set's classes, in the order of its labels.
        stated: what ``--classes`` says: a class of the data set for each of the
            file's, or one word alone: ``index`` or ``order``.

    Raises:
        DataError: the names are not those of the data set.
        UsageError: ``--classes`` names no class, one twice, or too few.
    """
    if tuple(stated) == (IN_ORDER,):
        order = Order(tuple(range(_same(path, names, known))), "as stated")
    elif tuple(stated) == (BY_INDEX,):
        order = Order(_indices(path, names, known), "as stated")
    elif stated:
        order = Order(_stated(path, names, known, stated), "as stated")
    elif not names:
        return Order(tuple(range(len(known))), "in order")
    else:
        order = _by_name(path, names, known)
    if len(set(order.places)) < len(order.places):
        raise DataError(
            f"{path}: two of its classes are one class of the data set: "
            f"{_few(names)}; say which is which with --classes"
        )
    return order


def _by_name(path: Path, names: Sequence[str], known: Sequence[str]) -> Order:
    """By equal names, else by equal numbers."""
    own, theirs = list(map(_plain, names)), list(map(_plain, known))
    if set(own) <= set(theirs) and len(set(theirs)) == len(theirs):
        return Order(tuple(map(theirs.index, own)), "by name")
    if all(map(str.isdecimal, (*own, *theirs))):
        numbers, values = list(map(int, own)), list(map(int, theirs))
        if set(numbers) <= set(values):
            return Order(tuple(map(values.index, numbers)), "by number")
    numbered = [re.fullmatch(r"(\d+)[ _.-]+(.+)", name) for name in names]
    if all(numbered):  # as dcbench writes them: 003_cat
        pairs = [(int(each[1]), _plain(each[2])) for each in numbered if each]
        if all(i < len(theirs) and theirs[i] == plain for i, plain in pairs):
            return Order(tuple(i for i, _ in pairs), "by number and name")
    odd = [name for name, plain in zip(names, own, strict=True) if plain not in theirs]
    raise DataError(
        f"{path} has {len(names)} classes, of which {_few(odd)} are none of the data "
        f"set's {len(known)} ({_few(known)}); say which class each is with --classes, "
        f"a name for each in the order {_few(names)}; --classes {BY_INDEX} if their "
        f"numbers are those of the labels, --classes {IN_ORDER} if they stand in the "
        "data set's order; or name the right data set with --dataset"
    )


def _stated(
    path: Path, names: Sequence[str], known: Sequence[str], stated: Sequence[str]
) -> tuple[int, ...]:
    """As ``--classes`` lists them."""
    count = len(names) or len(known)
    if len(stated) != count:
        raise UsageError(
            f"{path}: --classes names {len(stated)} classes, but the file has {count}; "
            "give one for each, in the file's order"
        )
    return _by_name(Path("--classes"), stated, known).places


def _same(path: Path, names: Sequence[str], known: Sequence[str]) -> int:
    """How many classes there are, in the file as in the data set."""
    if len(names or known) != len(known):
        raise UsageError(
            f"{path}: --classes {IN_ORDER}: {len(names)} classes, but the data set has "
            f"{len(known)}; list them by name"
        )
    return len(known)


def _indices(path: Path, names: Sequence[str], known: Sequence[str]) -> tuple[int, ...]:
    """The number in each name, such as 7 in new007."""
    found = [re.findall(r"\d+", name) for name in names]
    numbers = [int(each[0]) if len(each) == 1 else -1 for each in found]
    wrong = [n for n, i in zip(names, numbers, strict=True) if not 0 <= i < len(known)]
    if wrong:
        raise UsageError(
            f"{path}: --classes {BY_INDEX}: {_few(wrong)} hold no number from 0 to "
            f"{len(known) - 1}; list the classes by name"
        )
    return tuple(numbers) if names else tuple(range(len(known)))


def _plain(name: str) -> str:
    """A name without case and separators, and the first of its synonyms."""
    plain = re.sub(r"[\W_]+", "", name.lower())
    if plain.isdecimal():
        plain = str(int(plain))
    return _FIRST.get(plain, plain)


def _few(names: Sequence[str]) -> str:
    """The first names for a message."""
    shown = ", ".join(name[:40] for name in names[:4])
    return shown + (" ..." if len(names) > 4 else "")
