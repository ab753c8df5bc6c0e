"""Tell whether the code behind an artefact has changed, and nothing else.

The fingerprint of a script covers every definition of our package that the script
reaches, without comments, docstrings and log calls. Touching, reformatting or
documenting a file changes nothing; changing one function changes only the stages that
reach it. Standard library only.

A module-level dictionary whose values name modules of the package ("registry") is not
followed: which entry is used is a setting, so the caller names it in `uses`.
"""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache, cached_property, lru_cache
from pathlib import Path

PACKAGE = "tomoglean"
NEVER_COUNTED = {
    f"{PACKAGE}.{name}" for name in ("stage", "provenance", "report", "progress")
}
LOGGERS = {"log", "logger", "logging", "progress"}
Nodes = tuple[ast.AST, ...]


def fingerprint(script: Path, *, root: Path, uses: tuple[str, ...] = ()) -> str:
    """Hash the code that a script reaches.

    Parameters
    ----------
    script
        Python file that a rule runs.
    root
        Folder that holds the package.
    uses
        Modules that the script reaches through a registry, by full name.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    texts = [ast.unparse(_silent(script))]
    for name, definition in sorted(reached(script, root=root, uses=uses)):
        module = _module(root, name)
        texts.append(f"{name}:{definition}\n{module.text(definition) if module else ''}")
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def reached(
    script: Path, *, root: Path, uses: tuple[str, ...] = ()
) -> set[tuple[str, str]]:
    """List the (module, definition) pairs of the package that a script reaches."""
    tree = _silent(script)
    nodes = tuple(ast.walk(tree))
    waiting = set(_references(nodes, _imports(nodes, root), root))
    waiting |= {pair for module in uses for pair in _everything(root, module)}
    found: set[tuple[str, str]] = set()
    while waiting:
        name, definition = pair = waiting.pop()
        module = _module(root, name)
        if pair in found or module is None or _never_counted(name):
            continue
        found.add(pair)
        waiting |= module.neighbours(definition) - found
    return found


def _never_counted(module: str) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in NEVER_COUNTED)


def _file(root: Path, module: str) -> Path | None:
    stem = root.joinpath(*module.split("."))
    for path in (stem.with_suffix(".py"), stem / "__init__.py"):
        if path.is_file():
            return path
    return None


class _Module:
    """One parsed file: definitions by name, what they reach, and how they read."""

    def __init__(self, path: Path, root: Path, name: str) -> None:
        tree = _silent(path)
        self.name, self.root = name, root
        self.imports = _imports(tuple(ast.walk(tree)), root)
        self.definitions: dict[str, list[ast.stmt]] = {}
        for statement in tree.body:
            for defined in _defined(statement):
                self.definitions.setdefault(defined, []).append(statement)

    @cached_property
    def everything(self) -> set[tuple[str, str]]:
        return {(self.name, defined) for defined in self.definitions}

    @cache  # noqa: B019 - modules live as long as the process
    def neighbours(self, name: str) -> set[tuple[str, str]]:
        found = {(self.name, "<statements>")}
        for statement in self.counted(name):
            nodes = tuple(ast.walk(statement))
            inner = {**self.imports, **_imports(nodes, self.root)}
            found.update(_references(nodes, inner, self.root))
            names = {node.id for node in nodes if isinstance(node, ast.Name)}
            found.update((self.name, other) for other in names & self.definitions.keys())
        return found

    @cache  # noqa: B019 - modules live as long as the process
    def text(self, name: str) -> str:
        return "\n".join(map(ast.unparse, self.counted(name)))

    def counted(self, name: str) -> list[ast.stmt]:
        statements = self.definitions.get(name, [])
        return [node for node in statements if not _is_registry(node, self.root)]


def _defined(statement: ast.stmt) -> list[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [statement.name]
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return []
    if isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = (
            statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        )
        return [
            node.id
            for target in targets
            for node in ast.walk(target)
            if isinstance(node, ast.Name)
        ]
    return [] if _is_prose(statement) else ["<statements>"]


@lru_cache(maxsize=512)
def _parsed(path: Path, root: Path, name: str, stamp: tuple[int, int]) -> _Module:
    return _Module(path, root, name)


def _module(root: Path, name: str) -> _Module | None:
    path = _file(root, name)
    if path is None:
        return None
    status = path.stat()
    return _parsed(path, root, name, (status.st_mtime_ns, status.st_size))


def _everything(root: Path, module: str) -> set[tuple[str, str]]:
    parsed = _module(root, module)
    return parsed.everything if parsed else set()


def _imports(nodes: Nodes, root: Path) -> dict[str, tuple[str, str | None]]:
    """Map local names to (module, definition or None) for our own package."""
    names: dict[str, tuple[str, str | None]] = {}
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and _ours(node.module):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                target = (
                    (inner, None) if _file(root, inner) else (str(node.module), alias.name)
                )
                names[alias.asname or alias.name] = target
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if _ours(alias.name) and alias.asname:
                    names[alias.asname] = (alias.name, None)
    return names


def _ours(module: str | None) -> bool:
    return bool(module) and str(module).split(".")[0] == PACKAGE


def _references(
    nodes: Nodes, names: dict[str, tuple[str, str | None]], root: Path
) -> Iterator[tuple[str, str]]:
    """Yield what a piece of code takes from the package; a bare module means all of it."""
    parents = {id(node.value): node for node in nodes if isinstance(node, ast.Attribute)}
    for node in nodes:
        if not isinstance(node, ast.Name) or node.id not in names:
            continue
        module, name = names[node.id]
        attribute = parents.get(id(node))
        if name is not None:
            yield from _exported(root, module, name)
        elif attribute is None:
            yield from _everything(root, module)
        elif _file(root, f"{module}.{attribute.attr}"):
            yield from _everything(root, f"{module}.{attribute.attr}")
        else:
            yield from _exported(root, module, attribute.attr)


def _exported(root: Path, module: str, name: str) -> Iterator[tuple[str, str]]:
    """Follow a name through a package's `__init__` to where it is defined."""
    parsed = _module(root, module)
    if parsed and name not in parsed.definitions and name in parsed.imports:
        origin, inner = parsed.imports[name]
        yield from [(origin, inner)] if inner else _everything(root, origin)
    else:
        yield (module, name)


def _is_registry(statement: ast.stmt, root: Path) -> bool:
    value = getattr(statement, "value", None)
    if not isinstance(value, ast.Dict) or not value.values:
        return False
    return all(
        isinstance(item, ast.Constant)
        and isinstance(item.value, str)
        and _ours(item.value)
        and _file(root, item.value) is not None
        for item in value.values
    )


def _is_prose(statement: ast.stmt) -> bool:
    """Docstrings, bare strings, log and progress calls say something, they do nothing."""
    if not isinstance(statement, ast.Expr):
        return False
    value = statement.value
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        return True
    function = value.func if isinstance(value, ast.Call) else None
    return (
        isinstance(function, ast.Attribute)
        and isinstance(function.value, ast.Name)
        and function.value.id in LOGGERS
    )


class _Silent(ast.NodeTransformer):
    """Take the prose out of a tree; an emptied block keeps a `pass`."""

    def visit(self, node: ast.AST) -> ast.AST:
        self.generic_visit(node)
        for field in ("body", "orelse", "finalbody"):
            block = getattr(node, field, None)
            if isinstance(block, list):
                kept = [item for item in block if not _is_prose(item)]
                needed = field == "body" and not isinstance(node, ast.Module)
                setattr(node, field, kept or ([ast.Pass()] if needed else []))
        return node


def _silent(path: Path) -> ast.Module:
    """Parse a file without its prose."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    _Silent().visit(tree)
    return tree
