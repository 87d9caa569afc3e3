"""The comparison of a data set's files with their published checksums."""

import hashlib
from pathlib import Path
from typing import Literal, NamedTuple

from dcbench_bacon.data.dataset_sources import DatasetSource
from dcbench_bacon.data.files.source_files import MissingDataError, opened
from dcbench_bacon.data.loading import (
    decode,
    find,
    forget,
    image_set,
    known_fingerprint,
    sources,
)
from dcbench_bacon.data.streaming.decoding import Decoder
from dcbench_bacon.data.streaming.image_sets import ImageSet
from dcbench_bacon.errors import DataError

Mark = Literal["ok", "BAD", "absent"]


class Check(NamedTuple):
    """One line of the report of ``verify``."""

    file: str
    mark: Mark
    message: str

    @property
    def ok(self) -> bool:
        """Whether the file is as published."""
        return self.mark == "ok"


def verify(name: str, root: Path | None = None) -> list[Check]:
    """Return the comparison of a data set's files with published checksums and counts.

    The files are decoded again. If the copy in the cache has other images, it is
    removed, and the last line says so.

    Raises:
        UsageError: there is no such data set.
    """
    source = find(name, root)
    try:
        paths = sources(source)
    except MissingDataError as error:
        return [Check(str(source.folder), "absent", str(error))]
    except DataError as error:
        return [Check(str(source.folder), "BAD", str(error))]
    sums = [
        (path, md5)
        for path in paths
        for official, md5 in getattr(source.module, "FILES", {}).items()
        if Path(path).name.removesuffix(".gz") == Path(official).name
    ]
    checks = [_check_md5(path, md5) for path, md5 in sums]
    images = image_set(source)
    if images is not None:
        of_files = _check_each(images, source)
        if images.streams or len(of_files) > 1:
            return [*checks, *of_files]
    try:
        stored = decode(source, images)
    except DataError as error:
        return [*checks, Check(str(source.folder), "BAD", str(error))]
    counts = tuple(len(stored.arrays[f"{split}_labels"]) for split in ("train", "test"))
    official = getattr(source.module, "COUNTS", counts)
    message = f"{counts} images, officially {official}, sha256 {stored.fingerprint}"
    checks.append(Check(str(source.folder), _mark(counts == official), message))
    cached = known_fingerprint(name, root)
    if cached not in (None, stored.fingerprint):
        forget(source)
        message = "the cached copy had other images; it is removed and made again"
        checks.append(Check(str(source.folder), "BAD", message))
    return checks


def _check_each(images: ImageSet, source: DatasetSource) -> list[Check]:
    """Return the files that cannot be decoded, and a line about the counts."""
    bad = [
        Check(files.path(file.number), "BAD", file.reason)
        for files in (images.train, images.test)
        for file in Decoder(files, images.square).bad()
    ]
    counts = (len(images.train), len(images.test))
    official = getattr(source.module, "COUNTS", counts)
    message = (
        f"{counts} images, officially {official}, {len(bad)} of them bad; sha256 "
        f"{images.fingerprint} of names, sizes and times"
    )
    return [*bad, Check(str(source.folder), _mark(counts == official), message)]


def _mark(right: bool) -> Mark:
    return "ok" if right else "BAD"


def _check_md5(path: Path | str, expected: str) -> Check:
    """Return the comparison of the decompressed file with its published MD5 sum."""
    try:
        with opened(path) as file:
            actual = hashlib.file_digest(file, "md5").hexdigest()  # type: ignore[arg-type]
    except DataError as error:
        return Check(str(path), "BAD", str(error))
    right = actual == expected
    note = "" if right else f", not {expected}"
    return Check(str(path), _mark(right), f"md5 {actual}{note}")
