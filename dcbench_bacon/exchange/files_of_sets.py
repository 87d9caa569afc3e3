"""Reading, writing and drawing sets, as notebooks do it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dcbench_bacon.data.sets import synthetic_file
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.errors import DataError, UsageError, guess, unknown
from dcbench_bacon.exchange.formats import ReadingOptions


def read_set(
    path: str | Path,
    dataset: str | None = None,
    *,
    data_root: str | Path | None = None,
    **stated: Any,
) -> SyntheticSet:
    """Return a synthetic set from a file of any format.

    ``dcbench list formats`` names the formats. No code in the file is run.

    Args:
        path: a file, or a folder for the formats that take one.
        dataset: what it was made from; by default what the file tells.
        data_root: where data sets lie; ``DCBENCH_DATA`` by default.
        stated: what is known of the file, after the options of ``dcbench evaluate``:
            ``format`` (``--from``), ``index``, ``partition``, ``zca``, ``pixels``,
            ``statistics``, ``labels``, ``learning_rate``, ``classes``, ``name``.

    Returns:
        The set, on the CPU.

    Raises:
        DataError: it cannot be read; says why and which option may help.
        RecordError: it is a damaged file of dcbench's own.
        UsageError: there is no such option, or it does not fit.
    """
    from dcbench_bacon.exchange import adopt  # its readers take time to import

    known = set(ReadingOptions.__dataclass_fields__) - {"as_method", "dataset"}
    for key in stated:
        if key not in known:
            names = ", ".join(sorted(known))
            raise UsageError(
                f"no option {key!r}.{guess(key, known)} There are: {names}"
            )
    root = None if data_root is None else Path(data_root)
    return adopt.read(Path(path), ReadingOptions(dataset=dataset, **stated), root)


def write_set(synthetic: SyntheticSet, path: str | Path) -> None:
    """Write a set to a file of dcbench's own format, a ``.safetensors``.

    Args:
        synthetic: what ``distill`` or ``read_set`` returned.
        path: of the file, which must not exist.

    Raises:
        DataError: it is no valid set.
        OutputError: the file cannot be written.
        UsageError: there is a file of that name.
    """
    if Path(path).exists():
        raise UsageError(f"{path} exists; choose another name")
    try:
        synthetic_file.write(Path(path), synthetic)
    except ValueError as error:
        raise DataError(f"{path} was not written, no valid set: {error}") from error


def draw(
    sets: SyntheticSet | Sequence[SyntheticSet],
    *,
    decode: bool = False,
    images: int | None = None,
    format: str = "png",
) -> bytes:
    """Return a picture of sets of one data set side by side, with a row per class.

    It is that of ``dcbench plot images``; ``IPython.display.Image`` shows it.

    Args:
        sets: one or more sets, each of which says what it was made from.
        decode: cut partitioned images apart first.
        images: the most images per class and set; as many as fit a page by default.
        format: ``png``, ``svg`` or ``pdf``.

    Returns:
        The content of the file.

    Raises:
        DataError: a set does not say what it was made from.
        UsageError: the sets are of several data sets, or there is no such format.
    """
    from dcbench_bacon.exchange.pictures import figure
    from dcbench_bacon.exchange.pictures.opened import facts_in

    if format not in figure.FORMATS:
        raise unknown("format", format, figure.FORMATS)
    shown = []
    sets = [sets] if isinstance(sets, SyntheticSet) else sets
    for number, synthetic in enumerate(sets):
        file = Path(f"set {number}")
        info, name = facts_in(file, synthetic), figure.name_above(synthetic, file.name)
        shown.append(
            figure.Shown(name, synthetic.decode() if decode else synthetic, info)
        )
    if len({drawn.info.class_names for drawn in shown}) != 1:
        raise UsageError("give one or more sets, all of one data set")
    return figure.draw(shown, figure.Choice(images=images), format)
