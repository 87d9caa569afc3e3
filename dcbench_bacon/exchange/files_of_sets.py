"""Reading and writing the file of a set, as notebooks do it."""

from pathlib import Path
from typing import Any

from dcbench_bacon.data.sets import synthetic_file
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.errors import DataError, UsageError, guess
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
            there = ", ".join(sorted(known))
            raise UsageError(
                f"no option {key!r}.{guess(key, known)} There are: {there}"
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
