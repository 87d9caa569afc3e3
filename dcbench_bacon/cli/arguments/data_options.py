"""Options about data sets: which, of which size, where, and how files are read."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import click

from dcbench_bacon.cli.arguments.decorators import options
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


def _stated(variable: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    """Return what keeps the value of an option in a variable while a command runs."""

    def state(context: click.Context, _: click.Parameter, value: Any) -> None:
        if value is None:
            return
        before = os.environ.get(variable)
        os.environ[variable] = str(value)
        context.call_on_close(lambda: _restore(variable, before))

    return state


def _restore(variable: str, before: str | None) -> None:
    if before is None:
        os.environ.pop(variable, None)
    else:
        os.environ[variable] = before


def _bytes(context: click.Context, option: click.Parameter, value: str | None) -> None:
    """Keep a number of bytes, after a check of how it is written."""
    if value is not None:
        try:
            reading.bytes_of(value)
        except UsageError as error:
            raise click.BadParameter(str(error)) from error
    _stated(reading.STREAM_ABOVE)(context, option, value)


data_root_option = options(
    click.option(
        "--data-root",
        type=click.Path(path_type=Path),
        help="The folder of data sets, in torchvision's layout. Also DCBENCH_DATA.",
    ),
    click.option(
        "--stream-above",
        metavar="BYTES",
        expose_value=False,
        callback=_bytes,
        help="Image files whose decoded pixels take more than this, such as 4GB (the "
        f"default), are decoded when they are needed; others once. Also "
        f"{reading.STREAM_ABOVE}.",
    ),
    click.option(
        "--bad-files",
        type=click.Choice(get_args(reading.BadFiles)),
        expose_value=False,
        callback=_stated(reading.BAD_FILES),
        help="What happens at an image file that cannot be decoded: stop (the "
        f"default), or skip such files after a look at all. Also {reading.BAD_FILES}.",
    ),
    click.option(
        "--decode-workers",
        type=click.IntRange(0),
        expose_value=False,
        callback=_stated(reading.WORKERS),
        help="The number of processes that decode streamed image files; by default one "
        f"per processor, at most {reading.MOST_WORKERS}. Also {reading.WORKERS}.",
    ),
)
