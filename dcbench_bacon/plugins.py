"""Registries that find methods and data sets by name without importing them.

The name that a user types is the name of a module, with ``+`` and ``-`` read as ``_``.
A module is found in its folder or, if third parties provide it, in an entry-point
group.
"""

import ast
import importlib
import pkgutil
import tomllib
from functools import cache, cached_property
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from dcbench_bacon.code_identity import code_sha256, source_file
from dcbench_bacon.errors import UsageError, unknown


class Registry:
    """The modules of one package and of one entry-point group.

    Args:
        kind: the word for a member in messages, in the singular.
        package: the name of the package whose modules are members.
        group: the name of the entry-point group; each entry point names a module.
    """

    def __init__(self, kind: str, package: str, group: str) -> None:
        """Keep the names; nothing is looked up yet."""
        self.kind = kind
        self.package = package
        self.group = group

    @cached_property
    def _modules(self) -> dict[str, str]:
        """The module paths by canonical name (``_`` for ``+`` and ``-``)."""
        package = importlib.import_module(self.package)
        modules = {
            module.name: f"{self.package}.{module.name}"
            for module in pkgutil.iter_modules(package.__path__)
            if not module.name.startswith("_")
        }
        for entry in entry_points(group=self.group):
            name = canonical(entry.name)
            if name in modules:
                raise UsageError(
                    f"{self.kind} {entry.name!r} of {entry.value} has the name of "
                    f"{modules[name]}; rename the entry point"
                )
            modules[name] = entry.module
        return modules

    def refresh(self) -> None:
        """Look the members up anew, such as after a package was installed."""
        vars(self).pop("_modules", None)

    def names(self) -> list[str]:
        """Return all names as they are printed, for example ``bacon+idm``, sorted."""
        return sorted(self.title_name(name) for name in self._modules)

    def title_name(self, module: str) -> str:
        """Return the printed name of a module: ``NAME`` in its source if it has one."""
        return str(self._constants(module).get("NAME", module))

    def resolve(self, name: str) -> str:
        """Return the printed name for a typed name.

        Raises:
            UsageError: there is no such name; the message lists the names.
        """
        module = canonical(name)
        if module not in self._modules:
            raise unknown(self.kind, name, self.names())
        return self.title_name(module)

    def module(self, name: str) -> ModuleType:
        """Import and return the module of a member.

        Raises:
            UsageError: there is no such name, or its module cannot be imported.
        """
        path = self.path(name)
        try:
            return importlib.import_module(path)
        except ImportError as error:
            raise UsageError(
                f"{self.kind} {name!r}: {path} cannot be imported ({error}); install "
                "the packages that it needs"
            ) from error

    def path(self, name: str) -> str:
        """Return the dotted name of a member's module."""
        self.resolve(name)
        return self._modules[canonical(name)]

    def source(self, name: str) -> Path:
        """Return the source file of a member without importing it.

        Raises:
            UsageError: there is no such name, or its module has no file.
        """
        path = source_file(self.path(name))
        if path is None:
            raise UsageError(
                f"the module of {self.kind} {name!r} has no source file; install its "
                "package with its sources"
            )
        return path

    def summary(self, name: str) -> str:
        """Return the first line of a member's docstring without importing it."""
        tree = ast.parse(self.source(name).read_text(encoding="utf-8"))
        return (ast.get_docstring(tree) or "").partition("\n")[0]

    def _constants(self, module: str) -> dict[str, object]:
        """Return the constants of a module by name without importing it."""
        path = source_file(self._modules[module])
        return {} if path is None else _constants(path, path.stat().st_mtime_ns)


@cache
def _constants(path: Path, changed: int) -> dict[str, object]:
    """Return the constants of a source file by name; each file is parsed once.

    Args:
        path: the source file.
        changed: the time of its last change in nanoseconds, so that an edited file is
            parsed again.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {
        statement.targets[0].id: statement.value.value
        for statement in tree.body
        if isinstance(statement, ast.Assign)
        and isinstance(statement.targets[0], ast.Name)
        and isinstance(statement.value, ast.Constant)
    }


def canonical(name: str) -> str:
    """Return the module name for a typed name: ``bacon_idm`` for ``bacon+idm``."""
    return name.replace("+", "_").replace("-", "_")


METHODS = Registry("method", "dcbench_bacon.methods", "dcbench.methods")
DATASETS = Registry("data set", "dcbench_bacon.datasets", "dcbench.datasets")


_FAMILIES = ("dcbench_bacon.distillation", "dcbench_bacon.augmentation")
_CODE = "code:"


def method_sha256(name: str) -> str:
    """Return ``code:`` and the sha256 of the code that decides a method's images.

    That is the method's module, and what it imports, directly or through each other,
    from its own package, ``dcbench_bacon.distillation`` and
    ``dcbench_bacon.augmentation``, by the rule of ``code_identity``. Earlier versions
    recorded the sha256 of the module's bytes, without a prefix.
    """
    module = METHODS.path(name)
    package = module.rpartition(".")[0]
    families = (*_FAMILIES, package) if package else _FAMILIES
    return f"{_CODE}{code_sha256(module, families)}"


def has_changed(name: str, made_by: object) -> bool:
    """Return whether a method is known to differ from what made a set.

    Args:
        name: of the method.
        made_by: ``method_sha256`` at the time. None, or one of an earlier version,
            tells nothing.
    """
    known = str(made_by).startswith(_CODE)
    return known and made_by != method_sha256(name)


def recipe_file(method: str) -> Path:
    """Return the path of the TOML file beside a method's module."""
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


class DatasetFacts(NamedTuple):
    """The size of a data set.

    Attributes:
        classes: the number of classes.
        train: the number of training images.
    """

    classes: int
    train: int


def facts_of(dataset: str) -> DatasetFacts | None:
    """Return the size of a data set, read without importing its module.

    Args:
        dataset: as it is printed.

    Returns:
        ``classes`` of the ``DatasetInfo`` and the first of the module's ``COUNTS``;
        None where there is no such module or it states neither.
    """
    if dataset not in DATASETS.names():
        return None
    try:
        tree = ast.parse(DATASETS.source(dataset).read_text(encoding="utf-8"))
        counts_by_name: dict[str, int] = {}
        for statement in tree.body:
            match statement:
                case ast.Assign([ast.Name("INFO")], ast.Call(keywords=keywords)):
                    (value,) = (k.value for k in keywords if k.arg == "classes")
                    counts_by_name["classes"] = int(ast.literal_eval(value))
                case ast.Assign([ast.Name("COUNTS")], counts):
                    counts_by_name["train"] = int(ast.literal_eval(counts)[0])
        return DatasetFacts(**counts_by_name)
    except (OSError, SyntaxError, TypeError, ValueError, UsageError):
        return None


def _info_title(path: Path) -> str | None:
    """Return the title in the ``INFO`` of a data set's module."""
    for statement in ast.parse(path.read_text(encoding="utf-8")).body:
        match statement:
            case ast.Assign([ast.Name("INFO")], ast.Call(keywords=keywords)):
                for keyword in keywords:
                    if keyword.arg == "title" and isinstance(
                        keyword.value, ast.Constant
                    ):
                        return str(keyword.value.value)
    return None
