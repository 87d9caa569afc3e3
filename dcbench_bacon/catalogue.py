"""What exists and what has been measured, as text; torch is not needed for most."""

import logging
from pathlib import Path
from typing import Any

from dcbench_bacon import recipe
from dcbench_bacon.errors import RecordError
from dcbench_bacon.formats import FORMATS, Format
from dcbench_bacon.records import Store
from dcbench_bacon.registry import DATASETS, METHODS, Registry

logger = logging.getLogger(__name__)


def listing(what: str) -> str:
    """The names of a kind, each with a line about it."""
    if what == "architectures":
        from dcbench_bacon import networks  # torch: networks are classes of it

        return "\n".join(networks.names())
    if what == "protocols":
        return _columns(recipe.protocol_titles())
    if what == "formats":
        return _columns({name: _format(each) for name, each in FORMATS.items()})
    registry: Registry = METHODS if what == "methods" else DATASETS
    return _columns({name: registry.summary(name) for name in registry.names()})


def print_table(
    output: Path, form: str, what: str, profiles: tuple[str, ...], source: str | None
) -> str:
    """A table of the records in a results folder.

    Args:
        output: the results folder.
        form: ``md``, ``csv``, ``latex`` or ``html``.
        what: ``accuracy``, ``spread``, ``timing`` or ``unfinished``, or a downstream
            use: ``continual`` or ``nas``.
        profiles: the records that enter.
        source: of published numbers; the preferred one without it.
    """
    from dcbench_bacon import published, tables

    if what in ("continual", "nas"):
        return _downstream(output, form, what, profiles)
    published.check_source(source)
    broken: list[RecordError] = []
    records = list(Store(output).records(broken))
    for error in broken:
        logger.warning("left out: %s", error)
    if what == "accuracy":
        table = tables.summary(tables.frame(records), profiles=profiles, source=source)
    elif what == "spread":
        table = tables.spread(tables.frame(records), profiles=profiles)
    else:
        if what == "timing":
            records += Store(output).records(broken, "timing")
        chosen = [each for each in records if each.recipe.profile in profiles]
        table = (tables.timing if what == "timing" else tables.unfinished)(chosen)
    if table.empty and form != "csv":
        others = {each.recipe.profile for each in records} - set(profiles)
        hint = "".join(f" Try --profile {name}." for name in sorted(others))
        logger.warning("no such records in %s.%s", output / "records", hint)
        return ""
    return tables.render(table, form)


def _format(each: Format) -> str:
    """What can be done with a format, and where it comes from."""
    uses = ["read" * each.reads, "written" * each.writes]
    return f"{' and '.join(filter(None, uses)):<16}  {each.title}"


def _downstream(output: Path, form: str, use: str, profiles: tuple[str, ...]) -> str:
    """The table of a downstream use."""
    from dcbench_bacon import downstream, downstream_tables

    store = Store(output)
    broken: list[RecordError] = []
    every: list[Any]
    if use == "continual":
        every = list(downstream.continual_folder(store).records(broken))
    else:
        every = list(downstream.search_folder(store).records(broken))
    for error in broken:
        logger.warning("left out: %s", error)
    chosen = [record for record in every if record.profile in profiles]
    if not chosen and form != "csv":
        others = {record.profile for record in every} - set(profiles)
        hint = "".join(f" Try --profile {name}." for name in sorted(others))
        logger.warning("no such records in %s.%s", output / use, hint)
        return ""
    make = (
        downstream_tables.continual if use == "continual" else downstream_tables.search
    )
    return downstream_tables.render(make(chosen), form)


def _columns(lines: dict[str, str]) -> str:
    width = max(map(len, lines), default=0)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in lines.items())
