"""Sets as they are looked at: with the facts of their data set, and not whitened."""

from pathlib import Path

import msgspec

from dcbench_bacon.data import loading, whitening
from dcbench_bacon.data.sets import synthetic_file
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.errors import DataError
from dcbench_bacon.schema import DatasetInfo


def facts_in(path: Path, synthetic: SyntheticSet) -> DatasetInfo:
    """Return the facts of the data set that a set was made from, as its file has them.

    Args:
        path: the file of the set, for messages.
        synthetic: the set.

    Raises:
        DataError: the file does not name the data set, or its sizes do not fit.
    """
    try:
        info = msgspec.convert(synthetic.provenance["dataset"], DatasetInfo)
    except (KeyError, msgspec.ValidationError) as error:
        raise DataError(
            f"{path} does not name the data set it was made from; make the set again, "
            "or read the file of another tool with --from and --dataset"
        ) from error
    synthetic_file.check_fits(path, synthetic, info)
    return info


def unwhitened(
    path: Path,
    synthetic: SyntheticSet,
    info: DatasetInfo,
    *,
    dataset: str | None,
    root: Path | None,
) -> SyntheticSet:
    """Return a set whose images are not whitened; reads the data set if they are.

    Args:
        path: the file of the set, for messages.
        synthetic: the set.
        info: the facts of its data set.
        dataset: the data set as the user names it; None for the one in the file.
        root: the folder of data sets; None for the default one.

    Raises:
        DataError: the data set is not there, or does not fit the set.
    """
    if not synthetic.provenance.get("zca"):
        return synthetic
    # A file's header must not name a folder of this machine; only --dataset may.
    loaded = loading.load(dataset or info.name.partition(":")[0], root)
    synthetic_file.check_fits(path, synthetic, loaded.info)
    return whitening.unwhiten(synthetic, loaded)
