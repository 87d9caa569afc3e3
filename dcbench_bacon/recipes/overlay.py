"""Recipes: hyper-parameters by method, data set and images per class, with sources.

A method's TOML file holds tables that are laid over each other, the later winning:
``[defaults]``, ``["*"]``, ``["*".IPC]``, ``[DATASET]``, ``[DATASET.IPC]``; then the
same tables under ``[profiles.NAME]``; then ``--set``. A file that names a ``base``
lies over that method's file. A quoted key ``"protocol.KEY"`` in a method's table
changes the published protocol ``dc`` for that method; the other protocols are the same
for all methods. A table's key ``source`` says where its values come from, its table
``sources`` the same for single keys, and ``inherited`` where what lower tables gave
comes from for these data; ``dcbench show`` prints it. The evaluation protocols in
``protocols.toml`` follow the same rules under ``[NAME]``; a protocol's ``base`` is
another protocol, its ``departures`` are sentences about what it does otherwise than its
source.
"""

import hashlib
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_args

import msgspec
from msgspec import Struct

from dcbench_bacon import schema
from dcbench_bacon.errors import UsageError, guess

PROTOCOLS = Path(__file__).with_name("protocols.toml")
PROTOCOL_PREFIX = "protocol."
PUBLISHED = "dc"  # the protocol of the methods' own papers
DEFAULT = "default of the code"
_ABOUT = ("source", "sources", "inherited")  # what a table says of its values
# What a digest of a protocol always holds. Other fields were added later; at their
# defaults they change nothing, so that the digests of older records stay.
_FIRST_FIELDS = frozenset(
    {
        *("name", "architectures", "networks", "epochs", "learning_rate", "momentum"),
        *("weight_decay", "batch_size", "augmentation", "precision", "selection"),
        *("measure_every", "validation", "evaluate_every"),
    }
)
Document = Mapping[str, Any]
T = TypeVar("T", bound=Struct)
Finder = Callable[[str], Path]
"""From a method's name to its recipe file."""


class Origin(NamedTuple):
    """Where a value in force comes from."""

    table: str
    source: str


class Resolved(NamedTuple):
    """A recipe and, for every key, its origin."""

    recipe: schema.Recipe
    origins: dict[str, Origin]


class Judged(NamedTuple):
    """How the sets of a method are evaluated.

    Attributes:
        protocol: in force.
        origins: of its keys, which are prefixed.
        own: what the method's recipe changes, by name of the field.
    """

    protocol: schema.Protocol
    origins: dict[str, Origin]
    own: dict[str, Any]


class Request(Struct, frozen=True, kw_only=True):
    """What decides which values are in force, apart from method and cell."""

    profile: schema.Profile = "paper"
    protocol: str = PUBLISHED
    overrides: Mapping[str, str] = {}
    architectures: tuple[str, ...] = ()
    selection: schema.Selection | None = None


@cache
def read(path: Path) -> Document:
    """Parses a recipe file.

    Raises:
        UsageError: the file is missing or is not TOML; the message names the line.
    """
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError as error:
        raise UsageError(f"{path}: this recipe file is missing") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: {error}") from error


def resolve(
    find: Finder, settings: type[Struct], cell: schema.Cell, request: Request
) -> Resolved:
    """The recipe in force for a cell.

    Args:
        find: gives a method's TOML file by name: the cell's and its bases'.
        settings: the struct of the method's hyper-parameters.
        cell: names data set and images per class.
        request: profile, protocol and overrides.

    Raises:
        UsageError: a value does not fit its key, or an override names no key.
    """
    path = find(cell.method)
    method = {
        key: value for key, value in request.overrides.items() if not _is_protocol(key)
    }
    values, origins = _merge(_with_bases(path, find), cell, request.profile)
    _override(values, origins, method, settings)
    judged = _judged(values, origins, cell, request)
    values = {key: value for key, value in values.items() if not _is_protocol(key)}
    struct = _convert(values, settings, _where(path, method))
    recipe = schema.Recipe(
        settings=msgspec.to_builtins(struct),
        protocol=judged.protocol,
        profile=request.profile,
        # Keys of other methods of the grid change nothing here.
        overrides={
            key: value
            for key, value in request.overrides.items()
            if _is_protocol(key) or key in struct.__struct_fields__
        },
    )
    for field in msgspec.structs.fields(settings):
        origins.setdefault(field.name, Origin(DEFAULT, ""))
    return Resolved(recipe, origins | judged.origins)


def judged_as(find: Finder, cell: schema.Cell, request: Request) -> Judged:
    """Return how the sets of the cell's method are evaluated.

    Args:
        find: gives a method's TOML file by name: the cell's and its bases'.
        cell: names the method, the data set and the images per class.
        request: profile, protocol and overrides.
    """
    layers = _with_bases(find(cell.method), find)
    return _judged(*_merge(layers, cell, request.profile), cell, request)


def _judged(
    values: Document, origins: Mapping[str, Origin], cell: schema.Cell, request: Request
) -> Judged:
    """The protocol under a method's values, which change the published one alone."""
    own = {key: value for key, value in values.items() if _is_protocol(key)}
    if request.protocol != PUBLISHED:
        own = {}
    found, given = _protocol(cell, request, own)
    explicit = _explicit(request)
    names = [key.removeprefix(PROTOCOL_PREFIX) for key in own]
    kept = [name for name in names if name not in explicit]
    given |= {PROTOCOL_PREFIX + name: origins[PROTOCOL_PREFIX + name] for name in kept}
    return Judged(found, given, {name: getattr(found, name) for name in kept})


def protocol(cell: schema.Cell, request: Request) -> schema.Protocol:
    """The evaluation protocol in force for a cell."""
    return _protocol(cell, request)[0]


def augmentation_of_real(cell: schema.Cell) -> str:
    """Return the augmentation of networks that are trained on the real images.

    That of ``dc`` for the data set: a mirrored digit is another one.
    """
    return protocol(cell, Request()).augmentation


def digest(recipe: schema.Recipe) -> str:
    """Eight hex digits that identify everything the recipe puts in force."""
    return _hash([recipe.settings, _decisive(recipe.protocol), recipe.profile])


def distillation_digest(recipe: schema.Recipe) -> str:
    """The same for what decides the synthetic set alone.

    Two recipes that differ in their evaluation share one set, which is then distilled
    once. Where a validation split is held out the method sees a smaller train split.
    """
    protocol = recipe.protocol
    if protocol.evaluate_every:  # the run owes a history, and may choose by it
        return _hash([recipe.settings, _decisive(protocol)])
    selection = "best_val" if protocol.held_out else protocol.selection
    if selection == "final":
        return _hash(recipe.settings)
    return _hash([recipe.settings, selection, protocol.validation])


def _decisive(protocol: schema.Protocol) -> dict[str, Any]:
    """The fields of a protocol that a digest holds."""
    defaults = {
        field.name: field.default for field in msgspec.structs.fields(schema.Protocol)
    }
    return {
        name: value
        for name, value in msgspec.structs.asdict(protocol).items()
        if name in _FIRST_FIELDS or value != defaults[name]
    }


def protocol_digest(protocol: schema.Protocol, *without: str) -> str:
    """The same for what makes accuracies of different sets comparable.

    The networks and how many of each are left out: rows and columns of tables name
    them, and both may grow from one record to the next.

    Args:
        protocol: of a record.
        without: further fields that may differ.
    """
    fields = msgspec.to_builtins(protocol)
    for key in ("architectures", "networks", *without):
        del fields[key]
    return _hash(fields)


def parse_overrides(pairs: tuple[str, ...]) -> dict[str, str]:
    """Splits the ``key=value`` texts of ``--set``.

    Raises:
        UsageError: a text has no ``=``.
    """
    split = [pair.partition("=") for pair in pairs]
    for pair, (key, equals, _) in zip(pairs, split, strict=True):
        if not (key and equals):
            raise UsageError(f"--set {pair}: write --set key=value")
    return {key.strip(): value.strip() for key, _, value in split}


def check_overrides(
    overrides: Mapping[str, str], settings: Sequence[type[Struct]]
) -> None:
    """Makes sure that every override is a key of some method or of the protocol.

    Raises:
        UsageError: a key belongs to none; the message lists the nearest and all.
    """
    known = {field.name for each in settings for field in msgspec.structs.fields(each)}
    known |= {
        PROTOCOL_PREFIX + field.name
        for field in msgspec.structs.fields(schema.Protocol)
        if field.name != "name"
    }
    for key in overrides:
        if key not in known:
            raise UsageError(
                f"--set {key}: no such recipe key.{guess(key, known)} "
                f"There are: {', '.join(sorted(known))}"
            )


def protocol_names() -> list[str]:
    """The evaluation protocols that exist."""
    return list(read(PROTOCOLS))


def protocol_titles() -> dict[str, str]:
    """A line about every protocol."""
    return {name: document["title"] for name, document in read(PROTOCOLS).items()}


def protocol_name(typed: str) -> str:
    """Return the name of a protocol for what was typed, ``-`` and ``+`` read as ``_``.

    Raises:
        UsageError: there is none; lists what there is.
    """
    name, known = typed.replace("-", "_").replace("+", "_"), protocol_names()
    if name not in known:
        near = guess(typed, known)
        raise UsageError(
            f"unknown protocol {typed!r}.{near} There are: {', '.join(known)}"
        )
    return name


def protocol_departures(name: str) -> list[str]:
    """Return what a protocol does otherwise than its source, a sentence each."""
    document = read(PROTOCOLS)
    lower = document[name].get("base")
    inherited = protocol_departures(lower) if lower else []
    return [*inherited, *document[name].get("departures", [])]


def protocol_requests(name: str) -> Iterator[tuple[schema.Cell, Request]]:
    """A cell and a request for every table of a protocol, in every profile.

    Raises:
        UsageError: a table is not of images per class.
    """
    document = read(PROTOCOLS)[name]
    for profile in get_args(schema.Profile):
        own = document.get("profiles", {}).get(profile, {})
        yield schema.Cell("any", "digits", 10), Request(profile=profile, protocol=name)
        for _, dataset, ipc in tables(document if profile == "paper" else own):
            cell = schema.Cell("any", dataset or "digits", ipc or 10)
            yield cell, Request(profile=profile, protocol=name)


def tables(document: Document) -> Iterator[tuple[str, str | None, int | None]]:
    """The (label, data set, images per class) of each table in a document."""
    for key, table in document.items():
        if key == "profiles" or not isinstance(table, dict):
            continue
        dataset = None if key in ("defaults", "*") else key
        yield key, dataset, None
        for ipc, inner in table.items():
            if isinstance(inner, dict) and ipc != "sources":
                if not ipc.isdigit():
                    raise UsageError(f"[{key}.{ipc}]: {ipc!r} is no image count")
                yield f"{key}.{ipc}", dataset, int(ipc)


def _layers(document: Document, cell: schema.Cell) -> Iterator[tuple[str, Document]]:
    """The tables that apply to a cell, the weakest first."""
    yield "defaults", document.get("defaults", {})
    for key in ("*", cell.dataset):
        table = document.get(key, {})
        flat = {
            name: value
            for name, value in table.items()
            if name == "sources" or not isinstance(value, dict)
        }
        yield key, flat
        cited = {"source": table["source"]} if "source" in table else {}
        inner = table.get(str(cell.ipc), {})
        yield f"{key}.{cell.ipc}", {**cited, **inner} if inner else {}


def _with_bases(path: Path, find: Finder) -> list[tuple[str, Document]]:
    """A recipe file and those it lies over, the lowest first."""
    files = [(path.name, read(path))]
    while base := files[0][1].get("base"):
        lower = find(base)
        if any(name == lower.name for name, _ in files):
            raise UsageError(f"{path}: base {base!r} leads back to itself")
        files.insert(0, (lower.name, read(lower)))
    return files


def _merge(
    documents: list[tuple[str, Document]], cell: schema.Cell, profile: str
) -> tuple[dict[str, Any], dict[str, Origin]]:
    """Lays the tables over each other and remembers who set what."""
    values: dict[str, Any] = {}
    origins: dict[str, Origin] = {}
    singly: set[str] = set()  # keys that have a source of their own
    reduced = [
        (f"{name} profiles.{profile}", each.get("profiles", {}).get(profile, {}))
        for name, each in documents
    ]
    for name, document in documents + reduced:
        for label, table in _layers(document, cell):
            where, sources = f"{name} [{label}]", table.get("sources", {})
            if unset := sorted(set(sources) - set(table)):
                raise UsageError(f"{where}: sources of {unset}, which it does not set")
            if "inherited" in table:
                for key in set(origins) - singly:
                    origins[key] = origins[key]._replace(source=table["inherited"])
            for key, value in table.items():
                if key not in _ABOUT:
                    values[key] = value
                    source = sources.get(key, table.get("source", ""))
                    origins[key] = Origin(where, source)
            singly = singly - set(table) | set(sources)
    return values, origins


def _override(
    values: dict[str, Any],
    origins: dict[str, Origin],
    overrides: Mapping[str, str],
    settings: type[Struct],
) -> None:
    """Applies the overrides that name a key of these settings."""
    known = {field.name for field in msgspec.structs.fields(settings)}
    for key, text in overrides.items():
        if key in known:
            values[key] = _literal(text)
            origins[key] = Origin("--set", "")


def _is_protocol(key: str) -> bool:
    return key.startswith(PROTOCOL_PREFIX)


def _explicit(request: Request) -> dict[str, tuple[Any, str]]:
    """What the user set of the protocol: value and option a key."""
    chosen: dict[str, tuple[Any, str]] = {
        key.removeprefix(PROTOCOL_PREFIX): (_literal(value), "--set")
        for key, value in request.overrides.items()
        if _is_protocol(key)
    }
    if request.architectures:
        chosen["architectures"] = request.architectures, "--architectures"
    if request.selection:
        chosen["selection"] = request.selection, "--selection"
    return chosen


def _protocol(
    cell: schema.Cell, request: Request, method: Mapping[str, Any] | None = None
) -> tuple[schema.Protocol, dict[str, Origin]]:
    """The evaluation protocol in force, its keys prefixed in the origins."""
    name = protocol_name(request.protocol)
    values, origins = _merge(_protocol_layers(name), cell, request.profile)
    for key, value in (method or {}).items():
        values[key.removeprefix(PROTOCOL_PREFIX)] = value
    for key, (value, option) in _explicit(request).items():
        values[key] = value
        origins[key] = Origin(option, "")
    where = _where(PROTOCOLS, _explicit(request))
    struct = _convert({**values, "name": name}, schema.Protocol, where)
    # What no table names is as in the published protocol, whose tables name all.
    published = _merge(_protocol_layers(PUBLISHED), cell, "paper")[1]
    origins["name"] = Origin("--protocol", read(PROTOCOLS)[name]["title"])
    for field in struct.__struct_fields__:
        as_published = published.get(field, Origin("", "")).source
        origins.setdefault(field, Origin(DEFAULT, as_published))
    prefixed = {PROTOCOL_PREFIX + key: origin for key, origin in origins.items()}
    return struct, prefixed


def _protocol_layers(name: str) -> list[tuple[str, Document]]:
    """The tables of a protocol and of those it lies over, the lowest first."""
    document, names = read(PROTOCOLS), [name]
    while base := document[names[0]].get("base"):
        if base not in document or base in names:
            raise UsageError(f"{PROTOCOLS} [{names[0]}]: no base {base!r} to lie over")
        names.insert(0, base)
    return [(f"{PROTOCOLS.name} {each}", document[each]) for each in names]


def _where(path: Path, overrides: Mapping[str, Any]) -> str:
    """What to look at when a value does not fit."""
    options = "".join(f", --set {key}" for key in overrides)
    return f"{path}{options}"


def _convert(values: Document, struct: type[T], where: str) -> T:
    """Validates values; the error names the file, the key and what was expected."""
    try:
        return msgspec.convert(values, struct)
    except msgspec.ValidationError as error:
        known = ", ".join(field.name for field in msgspec.structs.fields(struct))
        raise UsageError(f"{where}: {error}. The keys are: {known}") from error


def _literal(text: str) -> Any:
    """Reads an override as TOML would; what is no TOML value is a string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _hash(value: Any) -> str:
    encoded = msgspec.json.encode(value, order="sorted")
    return hashlib.sha256(encoded).hexdigest()[:8]
