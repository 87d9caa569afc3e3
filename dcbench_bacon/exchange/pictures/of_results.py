"""The sets of a results folder, to be looked at."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.errors import DataError, RecordError
from dcbench_bacon.exchange.pictures.mosaic import mosaic, most_per_class
from dcbench_bacon.exchange.pictures.opened import facts_in
from dcbench_bacon.recipes.digests import distillation_digest
from dcbench_bacon.reporting.figures.points import in_order
from dcbench_bacon.reporting.html.thumbnails import Thumbnail, thumbnail
from dcbench_bacon.running import set_files
from dcbench_bacon.schema import DatasetInfo, Record
from dcbench_bacon.store import Store

MOST_BYTES = 4_000_000  # of all thumbnails of a page, as they are written
MOST_CLASSES, MOST_IMAGES = 10, 10  # of a thumbnail, and per class


class Kept(NamedTuple):
    """A set of a results folder.

    Attributes:
        record: its first record.
        path: its file.
        synthetic: the set.
        info: the facts of its data set.
    """

    record: Record
    path: Path
    synthetic: SyntheticSet
    info: DatasetInfo


def kept(
    store: Store, records: Iterable[Record], broken: list[str] | None = None
) -> Iterator[Kept]:
    """Yield the sets of finished records that are in the folder, each once.

    Args:
        store: the results folder.
        records: the records, with the names of data sets that paths have.
        broken: receives a sentence for each set that cannot be read; without it, the
            first such error is raised.

    Raises:
        RecordError: a set cannot be read, and ``broken`` is None.
        DataError: a set does not say what it was made from, and ``broken`` is None.
    """
    seen = set()
    for record in records:
        digest = distillation_digest(record.recipe)
        key = (record.cell, digest, record.dataset_sha256, record.synthetic_sha256)
        if record.status != "done" or key in seen:
            continue
        seen.add(key)
        try:
            opened = set_files.of_record(store, record)
            if opened is not None:
                yield Kept(record, *opened, facts_in(*opened))
        except (DataError, RecordError) as error:
            if broken is None:
                raise
            broken.append(str(error))


def thumbnails(
    store: Store, records: Iterable[Record]
) -> tuple[list[Thumbnail], list[str]]:
    """Return thumbnails of the sets of records, as far as there is room on a page.

    They are in the order of all tables, and equal sets are shown once.

    Args:
        store: the results folder.
        records: the records, with the names of data sets that paths have.

    Returns:
        The thumbnails, and a sentence for each set that is left out.
    """
    pictures: list[Thumbnail] = []
    left_out: list[str] = []
    room = MOST_BYTES
    shown = set()
    for drawn in kept(store, in_order(records), left_out):
        record = drawn.record
        content = (record.cell, record.dataset_sha256, record.synthetic_sha256)
        if record.synthetic_sha256 and content in shown:
            continue  # by another recipe, such as one that tests on the way
        shown.add(content)
        thumbnail = _thumbnail(drawn)
        room -= len(thumbnail.uri)
        if room < 0:
            left_out.append(
                f"Images: {len(pictures)} sets are shown; more would make the page too "
                "large. dcbench plot images --methods NAMES draws others."
            )
            break
        pictures.append(thumbnail)
    return pictures, left_out


def _thumbnail(one: Kept) -> Thumbnail:
    """Return the first images of the first classes of a set."""
    synthetic, info = one.synthetic, one.info
    classes = range(min(info.classes, MOST_CLASSES))
    count = most_per_class(synthetic)
    columns = min(count, MOST_IMAGES)
    notes = [f"first {len(classes)} of {info.classes} classes"] * (
        len(classes) < info.classes
    )
    notes += [f"first {columns} of {count} images"] * (columns < count)
    notes += ["ZCA-whitened"] * bool(synthetic.provenance.get("zca"))
    rows = tuple(info.class_names[label] for label in classes)
    pixels = mosaic(synthetic, info, classes, columns)
    return thumbnail(one.record, pixels, ", ".join(notes), rows)
