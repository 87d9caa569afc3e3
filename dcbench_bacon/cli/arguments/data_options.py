"""Options about data sets: which, of which size, where, and how files are read."""

import os
from functools import wraps
from pathlib import Path
from typing import Any, get_args

import click

from dcbench_bacon.cli.arguments.decorators import Command, options
from dcbench_bacon.cli.arguments.option_types import NameList
from dcbench_bacon.data.streaming import options as reading
from dcbench_bacon.errors import UsageError
from dcbench_bacon.plugins import DATASETS

PAPER_DATASETS = (
    "mnist",
    "fashion_mnist",
    "svhn",
    "cifar10",
    "cifar100",
    "tiny_imagenet",
)


_SIZE = "dcbench size"  # the key of the value of --size among those of a command


def _keep_size(context: click.Context, _: click.Parameter, size: int | None) -> None:
    context.meta[_SIZE] = size


def sized(context: click.Context, _: click.Parameter, names: Any) -> Any:
    """Return the names of data sets, with the value of --size where it applies.

    Raises:
        BadParameter: --size was given, but the images of no data set can be resized.
    """
    size = context.meta.get(_SIZE)
    if size is None or names is None:
        return names
    several = isinstance(names, tuple)
    given = names if several else (names,)
    sized = tuple(_with_size(name, size) for name in given)
    if sized == given:
        raise click.BadParameter(
            "--size goes with folder:PATH, imagenette and the like; the images of "
            "other data sets have a size of their own"
        )
    return sized if several else sized[0]


def _with_size(name: str, size: int) -> str:
    """Return the name of a data set with a size, if its images can be resized."""
    kind, colon, path = name.partition(":")
    if "@" in kind or not hasattr(DATASETS.module(kind), "files"):
        return name
    return f"{kind}@{size}{colon}{path}"


size_option = click.option(
    "--size",
    type=click.IntRange(8, 1024),
    is_eager=True,
    expose_value=False,
    callback=_keep_size,
    help="The height and width in pixels that images of folder:PATH, imagenette and "
    "the like are resized to, such as 64; by default 224, and for a folder the median "
    "of the shorter sides.",
)
datasets_option = options(
    click.option(
        "--datasets",
        type=NameList(DATASETS, PAPER_DATASETS),
        callback=sized,
        help="Names separated by commas, or all for the paper's six; folder:PATH for "
        "your own images.",
    ),
    size_option,
)


def _bytes(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """Return a number of bytes as it was typed, after a check."""
    if value is not None:
        try:
            reading.bytes_of(value)
        except UsageError as error:
            raise click.BadParameter(str(error)) from error
    return value


def _stating(function: Command) -> Command:
    """Return a command that keeps how files are read in variables while it works."""

    @wraps(function)
    def work(
        *given: Any,
        stream_above: str | None,
        bad_files: str | None,
        decode_workers: int | None,
        **named: Any,
    ) -> Any:
        typed = {
            reading.STREAM_ABOVE: stream_above,
            reading.BAD_FILES: bad_files,
            reading.WORKERS: decode_workers,
        }
        stated = {key: str(value) for key, value in typed.items() if value is not None}
        before = {key: os.environ.pop(key, None) for key in stated}
        os.environ.update(stated)
        try:
            return function(*given, **named)
        finally:
            for key, value in before.items():
                del os.environ[key]
                os.environ.update({} if value is None else {key: value})

    return work


data_root_option = options(
    click.option(
        "--data-root",
        type=click.Path(path_type=Path),
        help="The folder of data sets, in torchvision's layout. Also DCBENCH_DATA.",
    ),
    click.option(
        "--stream-above",
        metavar="BYTES",
        callback=_bytes,
        help="Image files whose decoded pixels take more than this, such as 4GB (the "
        f"default), are decoded when they are needed; others once. Also "
        f"{reading.STREAM_ABOVE}.",
    ),
    click.option(
        "--bad-files",
        type=click.Choice(get_args(reading.BadFiles)),
        help="What happens at an image file that cannot be decoded: stop (the "
        f"default), or skip such files after a look at all. Also {reading.BAD_FILES}.",
    ),
    click.option(
        "--decode-workers",
        type=click.IntRange(0),
        help="The number of processes that decode streamed image files; by default one "
        f"per processor, at most {reading.MOST_WORKERS}. Also {reading.WORKERS}.",
    ),
    _stating,
)
