"""What ``dcbench convert`` does."""

from pathlib import Path

import msgspec

from dcbench_bacon import container, data, whitening
from dcbench_bacon.errors import DataError, UsageError
from dcbench_bacon.exchange import exporters, foreign
from dcbench_bacon.exchange.formats import Claims
from dcbench_bacon.schema import DatasetInfo

FOR_THE_EYE = ("folder", "picture")
_ENDINGS = {"dcbench": ".safetensors", "npz": ".npz", "picture": ".png"}
_OTHERS = (".jpg", ".jpeg", ".pt", ".pkl")  # endings that say something else


def convert_file(
    *,
    file: Path,
    to: str,
    output: Path,
    decode: bool,
    data_root: Path | None,
    claims: Claims,
) -> str:
    """Reads a set in any format and writes it in another.

    Where people are to see the images, the whitening is undone; that wants the data.

    Returns:
        A line that says what was written.

    Raises:
        UsageError: the ending of the output is that of another format.
        DataError: the set cannot be read, or does not say what it was made from.
    """
    wanted = _ENDINGS.get(to, output.suffix)
    if output.suffix != wanted and output.suffix in (*_ENDINGS.values(), *_OTHERS):
        raise UsageError(f"--output {output}: --to {to} writes {wanted} files")
    synthetic = foreign.read(file, claims, data_root)
    try:
        info = msgspec.convert(synthetic.provenance["dataset"], DatasetInfo)
    except (KeyError, msgspec.ValidationError) as error:
        raise DataError(f"{file} does not say what it was made from") from error
    container.check_fits(file, synthetic, info)
    if synthetic.provenance.get("zca") and to in FOR_THE_EYE:
        # A header names no folder of this machine: only --dataset does.
        name = claims.dataset or info.name.partition(":")[0]
        loaded = data.load(name, data_root)
        container.check_fits(file, synthetic, loaded.info)
        synthetic = whitening.unwhiten(synthetic, loaded)
    if decode:
        synthetic = synthetic.decode()
    exporters.write(output, to, synthetic, info)
    count, channels, *_ = synthetic.images.shape
    shape = f"{channels}x{info.size}x{info.size}"
    partition = synthetic.partition
    note = f", {partition**2} smaller ones in each" if partition > 1 else ""
    return f"{output}: {count} images of {info.title}, {shape}{note}, as {to}"
