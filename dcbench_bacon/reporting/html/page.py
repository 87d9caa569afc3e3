"""One self-contained page about the records of a results folder.

The page makes no request: everything is in the file, and its policy forbids the rest.
The same records make the same bytes.
"""

import base64
import hashlib
from collections.abc import Iterable, Sequence
from importlib.resources import files
from typing import Any

import jinja2
import msgspec
from markupsafe import Markup

from dcbench_bacon import __version__
from dcbench_bacon.reporting.figures.points import Named, named_in, overridden
from dcbench_bacon.reporting.html import cost_rows, figures, rows
from dcbench_bacon.reporting.html.details import as_script, details
from dcbench_bacon.reporting.html.downstream_rows import Downstream
from dcbench_bacon.reporting.html.thumbnails import Thumbnail
from dcbench_bacon.reporting.numbers import longform
from dcbench_bacon.reporting.wording import MARKS, NOTES
from dcbench_bacon.schema import Environment, Record
from dcbench_bacon.store import Store

_FACETS = {
    "dataset": "Data set",
    "ipc": "Images per class",
    "network": "Network",
    "preset": "Preset",
}


def page(
    store: Store,
    records: Sequence[Record],
    *,
    timing: Sequence[Record] = (),
    thumbnails: Sequence[Thumbnail] = (),
    downstream: Sequence[Downstream] = (),
    warnings: Sequence[str] = (),
) -> str:
    """Return the page as HTML.

    Args:
        store: the results folder.
        records: its records.
        timing: the records of ``dcbench time``.
        thumbnails: pictures of the sets of some records.
        downstream: the tables of downstream uses.
        warnings: sentences about what is left out.
    """
    shown = longform.told_apart(records)
    named = named_in(shown)
    accuracies = rows.accuracies(shown)
    timed = [*shown, *longform.told_apart(timing)]
    data = details(store, shown)
    script = _text("report.js")
    return _template().render(
        version=__version__,
        named=named,
        folder=store.root.resolve().name,
        policy=_policy(script),
        style=Markup(_text("report.css")),  # our own files, not of a stranger
        script=Markup(script),
        data=as_script(data),
        tiles=_tiles(shown, accuracies.rows),
        facets=_options([row.facets for row in accuracies.rows]),
        accuracies=accuracies,
        panels=figures.panels(accuracies.rows),
        heat_maps=figures.heat_maps(shown),
        curves=figures.curves_of(shown),
        pictures=[_picture(thumbnail, named) for thumbnail in thumbnails],
        sets=cost_rows.sets(shown),
        steps=cost_rows.steps(timed),
        step_times=figures.step_times(timed),
        downstream=downstream,
        unfinished=rows.unfinished(shown),
        machines=_machines(shown),
        notes=_notes(accuracies.rows),
        warnings=warnings,
    )


def _text(name: str) -> str:
    """Return the content of a file of this package."""
    return (files(__package__) / name).read_text(encoding="utf-8")


def _template() -> jinja2.Template:
    """Return the template; everything that it prints is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_text),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["signed"] = _signed
    environment.filters["duration"] = _duration
    return environment.get_template("report.html.jinja")


def _policy(script: str) -> str:
    """Return a policy by which the page runs its own script and requests nothing."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


def _signed(value: float) -> str:
    """Return a difference with its sign."""
    return f"{value:+.1f}".replace("-", "\N{MINUS SIGN}")


def _duration(seconds: float) -> str:
    """Return a duration in the unit that suits it."""
    if seconds < 1:
        return f"{1000 * seconds:.3g} ms"
    return f"{seconds:.3g} s" if seconds < 1000 else f"{seconds:,.0f} s"


def _tiles(
    records: Sequence[Record], accuracies: Sequence[rows.Accuracy]
) -> list[tuple[str, str]]:
    """Return the numbers at the head of the page, each with its word."""
    done = [record for record in records if record.status == "done"]
    networks = sum(len(record.evaluations) for record in done)
    seconds = sum(
        cost.seconds
        for record in done
        for stages in (record.distillation, record.evaluation)
        for cost in stages.values()
    )
    counts = [
        ("record", len(done)),
        ("data set", len({row.facets.dataset for row in accuracies})),
        ("method", len({row.method for row in accuracies})),
        ("trained network", networks),
        ("hour of computation", seconds / 3600),
    ]
    return [
        (
            f"{count:,.1f}" if word.startswith("hour") else f"{count:,}",
            _many(word, count),
        )
        for word, count in counts
    ]


def _many(word: str, count: int | float) -> str:
    """Return a word in the number that suits a count."""
    first, *rest = word.split(" of ")
    return " of ".join([first + "s" * (count != 1), *rest])


def _options(facets: Iterable[rows.Facets]) -> list[tuple[str, str, list[str]]]:
    """Return name, label and values of each filter, in the order of the table."""
    every = list(facets)
    return [
        (name, label, list(dict.fromkeys(getattr(row, name) for row in every)))
        for name, label in _FACETS.items()
    ]


def _picture(thumbnail: Thumbnail, named: Named) -> dict[str, Any]:
    """Return a picture of a set with what it is of."""
    record = thumbnail.record
    facets = rows.facets(longform.identity(record))
    method = named(record.name or record.cell.method)
    changes = overridden(record)
    shown = {"facets": facets, "method": method, "changes": changes}
    return {**shown, **thumbnail._asdict()}


def _machines(records: Sequence[Record]) -> list[tuple[dict[str, Any], int]]:
    """Return the environments that differ in more than time, with their records."""
    counts: dict[Environment, int] = {}
    for record in records:
        same = msgspec.structs.replace(record.environment, utc="")
        counts[same] = counts.get(same, 0) + 1
    return [
        (msgspec.structs.asdict(environment), count)
        for environment, count in counts.items()
    ]


def _notes(accuracies: Sequence[rows.Accuracy]) -> list[str]:
    """Return the sentences that explain the marks and numbers that are shown."""
    marks = {row.mark for row in accuracies}
    presets = {row.facets.preset for row in accuracies}
    changed = any(row.preset.endswith(longform.CHANGED) for row in accuracies)
    keys = ["std", "difference"]
    keys += [name for name, mark in MARKS.items() if mark in marks]
    keys += [name for name in ("quick", "demo") if name in presets]
    keys += ["set"] * changed
    return [NOTES[key] for key in keys]
