"""Data sets that are not on disk: fetched if allowed, else reported once."""

from collections.abc import Callable

from dcbench_bacon.data import loading
from dcbench_bacon.errors import DataError
from dcbench_bacon.running.run import RunContext

MOST_REASON = 100  # characters of the reason of a failed download


def fetched(name: str, context: RunContext) -> loading.MissingDataError | None:
    """Return None if a data set is on disk now, or the error for its cells.

    The user reads in three lines what is missing, where it was looked for and how to
    get it.

    Args:
        name: the data set as typed.
        context: the folder, whether to download, and who is told.
    """
    source = loading.find(name, context.data_root)
    try:
        loading.sources(source)
    except loading.MissingDataError as error:
        what = str(error).partition(";")[0].removeprefix(f"{source.kind}: ")
    except DataError:  # damaged; reported when its cells run
        return None
    else:
        return None
    tried = str(source.folder)
    can_download = hasattr(source.module, "fetch")
    if can_download and context.config.download:
        context.tell(f"{name}: downloading into {source.folder}")
        if not (reason := _problem(lambda: loading.get(name, context.data_root))):
            return None
        tried += f", and to download it ({reason})"
    remedy = f"put its files under {source.folder}"
    if can_download:
        remedy = f"dcbench data get {name}, or copy the folder"
    if source.kind == name:
        remedy += "; --data-root names another"
    context.tell(f"{name} is not on disk: {what}")
    context.tell(f"  tried: {tried}")
    context.tell(f"  to get it: {remedy}")
    return loading.MissingDataError(
        f"{name} is not on disk ({what}); tried {tried}; to get it: {remedy}"
    )


def _problem(get: Callable[[], None]) -> str:
    """Return why a download failed in a few words, or an empty text.

    Of a long reason the end is kept, because torchvision names the cause after the
    address of each mirror.
    """
    try:
        get()
    except DataError as error:
        reason = str(error.__cause__ or error)
        short = " ".join(reason.split())
        return short if len(short) <= MOST_REASON else f"...{short[-MOST_REASON:]}"
    return ""
