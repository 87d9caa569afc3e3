"""Finds methods and data sets by name without importing them.

The name typed is the module's name, with ``+`` and ``-`` read as ``_``. A module is
found in its folder or, from third parties, in an entry-point group.
"""

import ast
import hashlib
import importlib
import importlib.util
import pkgutil
import tomllib
from functools import cache, cached_property
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

from dcbench_bacon.errors import (
    UsageError,
    guess,
)

pass


class Registry:
    """The modules of one package plus those of one entry-point group.

    Args:
        kind: what the members are called in messages, in the singular.
        package: the package whose modules are members.
        group: the entry-point group; each entry point names a module.
    """

    def __init__(self, kind: str, package: str, group: str) -> None:
        """Remembers where to look; looks at nothing yet."""
        self.kind = kind
        self.package = package
        self.group = group

    @cached_property
    def _modules(self) -> dict[str, str]:
        """Module paths by canonical name (``_`` for ``+`` and ``-``)."""
        package = importlib.import_module(self.package)
        found = {
            module.name: f"{self.package}.{module.name}"
            for module in pkgutil.iter_modules(package.__path__)
            if not module.name.startswith("_")
        }
        for entry in entry_points(group=self.group):
            name = canonical(entry.name)
            if name in found:
                raise UsageError(
                    f"{self.kind} {entry.name!r} of {entry.value} has the name of "
                    f"{found[name]}; rename the entry point"
                )
            found[name] = entry.module
        return found

    def names(self) -> list[str]:
        """All names, as they are printed: ``_`` of a compound is shown as ``+``."""
        return sorted(self.title_name(name) for name in self._modules)

    def title_name(self, module: str) -> str:
        """The printed name of a module, from ``NAME`` in its source if it has one."""
        return str(self._constants(module).get("NAME", module))

    def resolve(self, name: str) -> str:
        """The printed name for what was typed.

        Raises:
            UsageError: there is no such name; the message lists what exists.
        """
        module = canonical(name)
        if module not in self._modules:
            known = self.names()
            near = guess(name, known)
            raise UsageError(
                f"unknown {self.kind} {name!r}.{near} There are: {', '.join(known)}"
            )
        return self.title_name(module)

    def module(self, name: str) -> ModuleType:
        """Imports and returns a member's module."""
        self.resolve(name)
        path = self._modules[canonical(name)]
        try:
            return importlib.import_module(path)
        except ImportError as error:
            raise UsageError(
                f"{self.kind} {name!r}: {path} cannot be imported ({error})"
            ) from error

    def source(self, name: str) -> Path:
        """The file of a member, found without importing it."""
        self.resolve(name)
        path = _file(self._modules[canonical(name)])
        if path is None:
            raise UsageError(f"the module of {self.kind} {name!r} has no file")
        return path

    def summary(self, name: str) -> str:
        """The first line of a member's docstring, read without importing it."""
        tree = ast.parse(self.source(name).read_text(encoding="utf-8"))
        return (ast.get_docstring(tree) or "").partition("\n")[0]

    def _constants(self, module: str) -> dict[str, object]:
        """Module-level string constants, read without importing the module."""
        path = _file(self._modules[module])
        return {} if path is None else _constants(path, path.stat().st_mtime_ns)


@cache
def _constants(path: Path, changed: int) -> dict[str, object]:
    """The constants of a source file; parsed once, as names are asked for often.

    Args:
        path: of the file.
        changed: when, in nanoseconds; an edited file is another one.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {
        statement.targets[0].id: statement.value.value
        for statement in tree.body
        if isinstance(statement, ast.Assign)
        and isinstance(statement.targets[0], ast.Name)
        and isinstance(statement.value, ast.Constant)
    }


def _file(module: str) -> Path | None:
    """The source of a module, found without importing it; None when there is none."""
    try:
        spec = importlib.util.find_spec(module)
    except ImportError:  # of a parent package
        return None
    return Path(spec.origin) if spec and spec.origin else None


def canonical(name: str) -> str:
    """The module name for a typed name: ``bacon+idm`` is ``bacon_idm``."""
    return name.replace("+", "_").replace("-", "_")


METHODS = Registry("method", "dcbench_bacon.methods", "dcbench.methods")
DATASETS = Registry("data set", "dcbench_bacon.datasets", "dcbench.datasets")


def method_sha256(name: str) -> str:
    """Of the module's source."""
    return hashlib.sha256(METHODS.source(name).read_bytes()).hexdigest()


def recipe_file(method: str) -> Path:
    """The TOML file beside a method's module."""
    return METHODS.source(method).with_suffix(".toml")


def title_of(name: str) -> str | None:
    """Return what people call a method or a data set, read without importing it.

    Args:
        name: as it is printed.

    Returns:
        ``title`` of a recipe, or of the ``DatasetInfo`` in a module of a data set;
        None where nothing of that name has one.
    """
    try:
        if name in METHODS.names():
            document = tomllib.loads(recipe_file(name).read_text(encoding="utf-8"))
            return str(document["title"])
        if name in DATASETS.names():
            return _info_title(DATASETS.source(name))
    except (KeyError, OSError, SyntaxError, ValueError, UsageError):
        return None  # a name does for a plug-in that is damaged; its use will tell
    return None


def _info_title(path: Path) -> str | None:
    """The title in the ``INFO`` of a data set's module."""
    for statement in ast.parse(path.read_text(encoding="utf-8")).body:
        match statement:
            case ast.Assign([ast.Name("INFO")], ast.Call(keywords=keywords)):
                for keyword in keywords:
                    if keyword.arg == "title" and isinstance(
                        keyword.value, ast.Constant
                    ):
                        return str(keyword.value.value)
    return None
