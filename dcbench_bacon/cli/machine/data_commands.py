"""The commands about data sets: ``dcbench data get`` and ``dcbench data verify``."""

from pathlib import Path

import click

from dcbench_bacon.cli.arguments.option_types import NameList
from dcbench_bacon.cli.arguments.options import PAPER_DATASETS, data_root_option
from dcbench_bacon.errors import DataError
from dcbench_bacon.plugins import DATASETS


@click.group(
    epilog="""\b
Examples:
  dcbench data get mnist,cifar10
  dcbench data verify all
"""
)
def data() -> None:
    """Fetch or verify data sets."""


@data.command(epilog="Example: dcbench data get mnist,cifar10")
@click.argument("datasets", type=NameList(DATASETS, PAPER_DATASETS))
@data_root_option
def get(datasets: tuple[str, ...], data_root: Path | None) -> None:
    """Download data sets that are not on disk yet."""
    from dcbench_bacon.data import loading

    missing = 0
    for name in datasets:
        try:
            loading.get(name, data_root)
        except DataError as error:
            missing += 1
            click.echo(f"error: {error}", err=True)
        else:
            click.echo(f"{name}: ready")
    raise SystemExit(1 if missing else 0)


@data.command(epilog="Example: dcbench data verify all")
@click.argument("datasets", type=NameList(DATASETS, PAPER_DATASETS))
@data_root_option
def verify(datasets: tuple[str, ...], data_root: Path | None) -> None:
    """Check the files of data sets against their official checksums."""
    from dcbench_bacon.data.files import verification

    bad = 0
    for name in datasets:
        for check in verification.verify(name, data_root):
            bad += not check.ok
            click.echo(f"{check.mark:<3} {name}: {check.file}: {check.message}")
    raise SystemExit(1 if bad else 0)
