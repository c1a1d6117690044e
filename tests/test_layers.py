"""Imports point up the list of layers, decisions are pure, and nothing grows past what one can hold."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

SRC = Path(__file__).parents[1] / "src" / "inglenook"
# A module may import its own layer and those before it.
ORDER = """
    errors wire client config models policy engines workers store telemetry runtime gateway http bench cli
    __main__
""".split()
PURE = {"errors", "wire", "policy", "engines"}
IMPURE = {"asyncio", "logging", "os", "random", "secrets", "socket", "subprocess", "threading", "time"}
LONGEST_FILE = 700
LONGEST_FUNCTION = 60


def sources() -> list[Path]:
    return sorted(SRC.rglob("*.py"))


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):  # in-function imports count too
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.module == "inglenook":
                yield from ((node.lineno, f"inglenook.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, node.module or ""


def layer(path: Path) -> str:
    return path.relative_to(SRC).parts[0].removesuffix(".py")


def test_imports_point_up_and_decisions_are_pure() -> None:
    """No module imports from a layer below its own, and a pure one no clock, chance or I/O."""
    wrong = []
    for path in sources():
        here = layer(path)
        if here == "__init__":
            continue
        for line, name in imports(ast.parse(path.read_text())):
            top, _, rest = name.partition(".")
            there = rest.split(".")[0]
            where = f"{path.relative_to(SRC)}:{line}"
            if top == "inglenook" and there in ORDER and ORDER.index(there) > ORDER.index(here):
                wrong.append(f"{where}: {here} may not import {there}")
            if here in PURE and top in IMPURE:
                wrong.append(f"{where}: {here} must stay pure, not import {top}")
    assert wrong == []


def test_every_layer_is_named() -> None:
    """A new package has to take its place in the order."""
    assert {layer(path) for path in sources()} - {"__init__"} <= set(ORDER)


def test_the_client_stands_alone() -> None:
    """It is for other programs: it knows what crosses the network, and no part of the server knows it."""
    knows: set[str] = set()
    known_by: set[str] = set()
    for path in sources():
        for _, name in imports(ast.parse(path.read_text())):
            there = [*name.split("."), ""][1] if name.startswith("inglenook.") else ""
            if there and layer(path) == "client":
                knows.add(there)
            if there == "client":
                known_by.add(layer(path))
    assert knows - {"client", "wire", "__version__"} == set()
    assert known_by == {"client"}


def test_our_own_modules_are_imported_at_the_top() -> None:
    """An import inside a function hides an arrow."""
    wrong = []
    for path in sources():
        for function in functions(ast.parse(path.read_text())):
            for line, name in imports(function):
                if name.startswith("inglenook"):
                    wrong.append(f"{path.relative_to(SRC)}:{line}: {name}")
    assert wrong == []


def test_no_module_has_state() -> None:
    """Objects are built once in the composition root and passed on."""
    wrong = [
        f"{path.relative_to(SRC)}:{node.lineno}"
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Global)
    ]
    assert wrong == []


def test_files_and_functions_stay_small() -> None:
    """Averages do not tell good code from bad; the largest piece does."""
    wrong = []
    for path in sources():
        text = path.read_text()
        if text.count("\n") > LONGEST_FILE:
            wrong.append(f"{path.relative_to(SRC)} has {text.count(chr(10))} lines")
        for function in functions(ast.parse(text)):
            body = function.body[1:] if ast.get_docstring(function) else function.body
            length = (function.end_lineno or 0) - body[0].lineno + 1 if body else 0
            if length > LONGEST_FUNCTION:
                wrong.append(f"{path.relative_to(SRC)}:{function.lineno} {function.name} has {length}")
    assert wrong == []


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
