"""Identifies code by what it computes, apart from its prose, types and places.

The rule: the syntax trees of a module and of all modules that it imports from given
packages, directly or through each other, without import statements, docstrings and
other strings that are statements, annotations and ``pass``. Comments, layout and line
numbers are not in a syntax tree. The names of the modules do not count either, so that
one that moves stays the same.
"""

import ast
import hashlib
import importlib.util
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any, NamedTuple


def source_file(module: str) -> Path | None:
    """Find the source of a module without importing it; None when there is none."""
    spec = _spec(module)
    return Path(spec.origin) if spec and spec.origin else None


def _spec(module: str) -> ModuleSpec | None:
    """Find a module; imports nothing but the packages that it is in."""
    if parent := module.rpartition(".")[0]:
        holder = _spec(parent)
        if holder is None or holder.submodule_search_locations is None:
            return None
    try:
        return importlib.util.find_spec(module)
    except ImportError:  # of a parent package
        return None


def code_sha256(module: str, packages: Sequence[str]) -> str:
    """Return the sha256 of a module's code and of what it imports from ``packages``.

    Args:
        module: dotted name.
        packages: dotted names; modules elsewhere are not looked into.
    """
    digests, seen, left = [], {module}, [module]
    while left:
        name = left.pop()
        file = source_file(name)
        if file is None:  # the name of something in a module, or a folder of modules
            continue
        code = _code(file, name, file.stat().st_mtime_ns)
        digests.append(code.digest)
        new = {
            imported for imported in code.imports if _within(imported, packages)
        } - seen
        seen |= new
        left.extend(new)
    return hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()


class _Code(NamedTuple):
    """The sha256 of a file's own code, and the names that may be modules it imports.

    The sha256 is empty where there is no code.
    """

    digest: str
    imports: frozenset[str]


@cache
def _code(file: Path, module: str, changed: int) -> _Code:
    """Read a source file; done once, as every record asks for it.

    Args:
        file: of the module.
        module: its dotted name, which relative imports start from.
        changed: when, in nanoseconds; an edited file is another one.
    """
    content = file.read_bytes()
    if file.suffix != ".py":  # compiled: all there is are the bytes
        return _Code(hashlib.sha256(content).hexdigest(), frozenset())
    tree = ast.parse(content)
    package = module if file.stem == "__init__" else module.rpartition(".")[0]
    imports = frozenset(_imported(tree, package))
    stripped = _Stripped().visit(tree)
    if not stripped.body:  # such as a package of a docstring alone
        return _Code("", imports)
    canonical = repr(_canonical(stripped))
    return _Code(hashlib.sha256(canonical.encode()).hexdigest(), imports)


def _within(module: str, packages: Sequence[str]) -> bool:
    return any(f"{module}.".startswith(f"{package}.") for package in packages)


def _imported(tree: ast.AST, package: str) -> Iterator[str]:
    """Return the names that a tree imports, of modules and of attributes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:
                source = f"{'.' * node.level}{source}"
                source = importlib.util.resolve_name(source, package)
            yield source
            yield from (f"{source}.{alias.name}" for alias in node.names)


class _Stripped(ast.NodeTransformer):
    """Takes away what does not decide what code computes."""

    def visit_Import(self, node: ast.Import) -> None:
        """Drop it."""

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        """Drop it."""

    def visit_Pass(self, node: ast.Pass) -> None:
        """Drop it."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        """Drop a string that is a statement."""
        value = node.value
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            return None
        return self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST | None:
        """Drop a condition of nothing but imports, such as TYPE_CHECKING."""
        self.generic_visit(node)
        return node if node.body or node.orelse else None

    def generic_visit(self, node: ast.AST) -> ast.AST:
        """Forget the types of arguments, results and variables."""
        for field in ("annotation", "returns"):
            if hasattr(node, field):
                setattr(node, field, None)
        return super().generic_visit(node)


def _canonical(node: Any) -> Any:
    """Return a tree as nested tuples, the same for every version of Python.

    ``ast.dump`` prints empty fields in some versions and not in others.
    """
    if isinstance(node, list):
        return [_canonical(child) for child in node]
    if not isinstance(node, ast.AST):
        return node
    fields = [(name, _canonical(value)) for name, value in ast.iter_fields(node)]
    return type(node).__name__, [
        child for child in fields if child[1] not in (None, [])
    ]
