"""Matching of a file's classes with those of a data set: by name, number or statement.

Classes are never matched by position alone, because names do not sort in the order of
labels: folders named zero to nine begin with eight, five, four, and '10' sorts before
'2'.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dcbench_bacon.errors import DataError, Question, UnstatedError, UsageError

BY_INDEX = "index"  # value of --classes: each name contains the number of its class
# Value of --classes: the classes are in the data set's order, as WordNet ids are.
IN_ORDER = "order"
# Other common names of the classes of known data sets, in the spelling of ``_plain``.
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
    """The classes of the data set, in the order of a file's classes.

    Attributes:
        places: index of the data set's class for each class of the file.
        how: ``in order``, ``by name``, ``by number`` or ``as stated``.
    """

    places: tuple[int, ...]
    how: str


def match(
    path: Path, names: Sequence[str], known: Sequence[str], stated: Sequence[str] = ()
) -> Order:
    """Return the data set's class for each of a file's classes.

    Args:
        path: the file, for messages.
        names: names of the file's classes, in its order; none if its labels are
            numbers.
        known: names of the data set's classes, in the order of its labels.
        stated: the value of ``--classes``: a class of the data set for each class of
            the file, or the one word ``index`` or ``order``.

    Raises:
        DataError: two names are one class, or the data set has fewer classes.
        UnstatedError: the names are not those of the data set.
        UsageError: ``--classes`` has a name that is no class, or too few names.
    """
    order: Order | None
    if tuple(stated) == (IN_ORDER,):
        order = Order(tuple(range(_same(path, names, known))), "as stated")
    elif tuple(stated) == (BY_INDEX,):
        order = Order(_indices(path, names, known), "as stated")
    elif stated:
        order = Order(_stated(path, names, known, stated), "as stated")
    elif not names:
        return Order(tuple(range(len(known))), "in order")
    else:
        order = _by_name(names, known)
    if order is None and len(names) > len(known):
        raise DataError(
            f"{path} has {len(names)} classes ({_few(names)}), but the data set has "
            f"{len(known)} ({_few(known)}); name the right data set with --dataset"
        )
    if order is None:
        raise UnstatedError(path, [_question(names, known)])
    if len(set(order.places)) < len(order.places):
        raise DataError(
            f"{path}: two of its classes are one class of the data set: "
            f"{_few(names)}; tell them apart with --classes"
        )
    return order


def _by_name(names: Sequence[str], known: Sequence[str]) -> Order | None:
    """Match classes by equal names, otherwise by equal numbers; None if neither fits.

    Two classes may have names that are one word to a looser comparison, such as auto
    and car. The strictest comparison that tells the data set's classes apart counts.
    """
    for spelled in (str, _joined, _plain):
        ours, theirs = list(map(spelled, names)), list(map(spelled, known))
        if set(ours) <= set(theirs) and len(set(theirs)) == len(theirs):
            return Order(tuple(map(theirs.index, ours)), "by name")
    if all(map(str.isdecimal, (*ours, *theirs))):
        numbers, values = list(map(int, ours)), list(map(int, theirs))
        if set(numbers) <= set(values):
            return Order(tuple(map(values.index, numbers)), "by number")
    numbered = [re.fullmatch(r"(\d+)[ _.-]+(.+)", name) for name in names]
    if all(numbered):  # the names that dcbench writes, such as 003_cat
        pairs = [(int(match[1]), _plain(match[2])) for match in numbered if match]
        if all(i < len(theirs) and theirs[i] == spelling for i, spelling in pairs):
            return Order(tuple(i for i, _ in pairs), "by number and name")
    return None


def _question(names: Sequence[str], known: Sequence[str]) -> Question:
    """Return the question about classes whose names are none of the data set's."""
    numbers = [re.findall(r"\d+", name) for name in names]
    numbered = all(
        len(digits) == 1 and int(digits[0]) < len(known) for digits in numbers
    )
    same = f"--classes {IN_ORDER}" if len(names) == len(known) else ""
    return Question(
        "--classes NAMES",
        f"its {len(names)} classes ({_few(names)}) are not the {len(known)} of the "
        f"data set ({_few(known)}); name the class of each, in the file's order and "
        f"with commas; {BY_INDEX} if the numbers in the names are those of the labels, "
        f"{IN_ORDER} if they are in the data set's order",
        f"--classes {BY_INDEX}" if numbered else same or f"--classes {known[0]},...",
    )


def _stated(
    path: Path, names: Sequence[str], known: Sequence[str], stated: Sequence[str]
) -> tuple[int, ...]:
    """Return the places of the classes that ``--classes`` lists."""
    count = len(names) or len(known)
    if len(stated) != count:
        raise UsageError(
            f"{path}: --classes names {len(stated)} classes, but the file has {count}; "
            "give one for each, in the file's order"
        )
    order = _by_name(stated, known)
    if order is None:
        odd = [name for name in stated if _by_name([name], known) is None]
        raise UsageError(
            f"{path}: --classes: {_few(odd or stated)} are none of the data set's "
            f"{len(known)} classes ({_few(known)})"
        )
    return order.places


def _same(path: Path, names: Sequence[str], known: Sequence[str]) -> int:
    """Return the number of classes, which must be the same in file and data set."""
    if len(names or known) != len(known):
        raise UsageError(
            f"{path}: --classes {IN_ORDER}: {len(names)} classes, but the data set has "
            f"{len(known)}; list them by name"
        )
    return len(known)


def _indices(path: Path, names: Sequence[str], known: Sequence[str]) -> tuple[int, ...]:
    """Return the number in each name, such as 7 in new007."""
    runs = [re.findall(r"\d+", name) for name in names]
    numbers = [int(digits[0]) if len(digits) == 1 else -1 for digits in runs]
    wrong = [n for n, i in zip(names, numbers, strict=True) if not 0 <= i < len(known)]
    if wrong:
        raise UsageError(
            f"{path}: --classes {BY_INDEX}: {_few(wrong)} contain no number from 0 to "
            f"{len(known) - 1}; list the classes by name"
        )
    return tuple(numbers) if names else tuple(range(len(known)))


def _joined(name: str) -> str:
    """Return a name without case and separators, and a number without zeros."""
    joined = re.sub(r"[\W_]+", "", name.lower())
    return str(int(joined)) if joined.isdecimal() else joined


def _plain(name: str) -> str:
    """Return the first synonym of a name, without case and separators."""
    return _FIRST.get(_joined(name), _joined(name))


def _few(names: Sequence[str]) -> str:
    """Return the first few names, for a message."""
    shown = ", ".join(name[:40] for name in names[:4])
    return shown + (" ..." if len(names) > 4 else "")
