"""The house rules that a machine can check: direction of imports, sizes, documentation, types, clean files."""

from __future__ import annotations

import ast
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "medscroll"
# A package may import itself and those before it.
ORDER = ("errors", "config", "corpus", "packing", "model", "planning", "monitor", "engine", "stages", "cli")
LONGEST_FILE, LONGEST_FUNCTION = 500, 100
TYPED_SHARE, DUPLICATED_SHARE, DUPLICATE_LINES = 0.90, 0.03, 6
PRIVATE_PATH = re.compile(r"(?<![\w.~$}])/(?:home|root|Users|work|workspace|scratch)/[\w.-]+")
UNFINISHED = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")

Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def modules() -> dict[str, Path]:
    """Dotted name -> file of every module of the package."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    assert len(found) > 50  # guards every test below against passing on nothing
    return found


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


def nodes(root: ast.AST, with_types: bool) -> Iterator[ast.AST]:
    """All nodes below one; without `with_types` what stands under `if TYPE_CHECKING` is left out: it never runs."""
    for child in ast.iter_child_nodes(root):
        only_types = isinstance(child, ast.If) and getattr(child.test, "id", "") == "TYPE_CHECKING"
        if with_types or not only_types:
            yield child
            yield from nodes(child, with_types)


def imported(name: str, path: Path, with_types: bool = True) -> Iterator[str]:
    """Modules of the package that a module imports, at its top or inside functions."""
    for node in nodes(tree(path), with_types):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            base = node.module or ""
            targets = [f"{base}.{alias.name}" for alias in node.names]
            targets = [target if target in modules() else base for target in targets]
        else:
            continue
        yield from (target for target in targets if target in modules() and target not in (name, "medscroll"))


def functions(path: Path) -> Iterator[tuple[str, Function, bool]]:
    """Name, node and whether it is public, of every function and method; functions inside functions are not public."""

    def walk(node: ast.AST, prefix: str, public: bool) -> Iterator[tuple[str, Function, bool]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, Function):
                yield f"{prefix}{child.name}", child, public and not child.name.startswith("_")
                yield from walk(child, f"{prefix}{child.name}.", False)
            elif isinstance(child, ast.ClassDef):
                yield from walk(child, f"{prefix}{child.name}.", public and not child.name.startswith("_"))
            else:
                yield from walk(child, prefix, public)

    yield from walk(tree(path), "", True)


def test_imports_go_one_way() -> None:
    wrong, seen = [], 0
    for name, path in modules().items():
        parts = name.split(".")
        if len(parts) < 2 or parts[1] == "__main__":
            continue
        assert parts[1] in ORDER, f"{name} is in no known package"
        for target in imported(name, path):
            seen += 1
            if ORDER.index(target.split(".")[1]) > ORDER.index(parts[1]):
                wrong.append(f"{name} imports {target}")
    assert seen > 100
    assert not wrong, "\n".join(wrong)


def test_no_import_cycle() -> None:
    """Imports inside functions count too; a package's own __init__ re-exports and does not."""
    inits = {name for name, path in modules().items() if path.name == "__init__.py"}
    inner = {name: path for name, path in modules().items() if name not in inits}
    graph = {name: set(imported(name, path, with_types=False)) - inits for name, path in inner.items()}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join([*trail[trail.index(name) :], name])
        if name not in done:
            for target in sorted(graph[name]):
                visit(target, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())
    assert len(done) == len(graph)


def test_every_module_opens_with_a_docstring() -> None:
    bare = [name for name, path in modules().items() if not ast.get_docstring(tree(path))]
    assert not bare, bare


def test_public_names_are_documented() -> None:
    bare, seen = [], 0
    for name, path in modules().items():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                seen += 1
                if not ast.get_docstring(node):
                    bare.append(f"{name}.{node.name}")
        for function, node, public in functions(path):
            if public:
                seen += 1
                if not ast.get_docstring(node) and not is_overload(node):
                    bare.append(f"{name}.{function}")
    assert seen > 200
    assert not bare, "\n".join(bare)


def is_overload(node: Function) -> bool:
    """Whether a function only states a signature."""
    return any(isinstance(item, ast.Name) and item.id == "overload" for item in node.decorator_list)


def test_files_and_functions_stay_short() -> None:
    long = []
    for name, path in modules().items():
        lines = len(path.read_text("utf-8").splitlines())
        if lines > LONGEST_FILE:
            long.append(f"{name}: {lines} lines")
        for function, node, _ in functions(path):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > LONGEST_FUNCTION:
                long.append(f"{name}.{function}: {length} lines")
    assert not long, "\n".join(long)


def test_functions_are_typed() -> None:
    typed, bare = 0, []
    for name, path in modules().items():
        for function, node, _ in functions(path):
            given = node.args
            arguments = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
            named = [argument for argument in arguments if argument is not None and argument.arg not in ("self", "cls")]
            if node.returns is not None and all(argument.annotation is not None for argument in named):
                typed += 1
            else:
                bare.append(f"{name}.{function}")
    assert typed > 200
    assert typed / (typed + len(bare)) >= TYPED_SHARE, "\n".join(bare)


def test_few_lines_are_duplicated() -> None:
    """Runs of `DUPLICATE_LINES` equal lines, imports, docstrings and blank lines aside."""
    places: dict[tuple[str, ...], list[tuple[str, int]]] = {}
    total = 0
    for name, path in modules().items():
        lines = code_lines(path)
        total += len(lines)
        for at in range(len(lines) - DUPLICATE_LINES + 1):
            run = tuple(text for _, text in lines[at : at + DUPLICATE_LINES])
            places.setdefault(run, []).append((name, at))
    copied = {
        (name, at + offset)
        for found in places.values()
        if len(found) > 1
        for name, at in found
        for offset in range(DUPLICATE_LINES)
    }
    assert total > 3000
    worst = Counter(name for name, _ in copied).most_common(8)
    assert len(copied) / total <= DUPLICATED_SHARE, f"{len(copied)} of {total} lines: {worst}"


def code_lines(path: Path) -> list[tuple[int, str]]:
    """Number and stripped text of the lines that are code: no docstrings, imports, comments or lone brackets."""
    skipped: set[int] = set()
    for node in ast.walk(tree(path)):
        value = node.value if isinstance(node, ast.Expr) else None
        is_text = isinstance(value, ast.Constant) and isinstance(value.value, str)
        if is_text or isinstance(node, ast.Import | ast.ImportFrom):
            assert isinstance(node, ast.stmt)
            skipped.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    numbered = enumerate((line.strip() for line in path.read_text("utf-8").splitlines()), 1)
    return [
        (number, line)
        for number, line in numbered
        if number not in skipped and not line.startswith("#") and re.search(r"\w", line)
    ]


@cache
def tracked() -> list[Path]:
    """Text files under version control; outside a clone, those of the known folders."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=False, capture_output=True, text=True)
    if listed.returncode == 0 and listed.stdout:
        files = [ROOT / name for name in listed.stdout.split("\0") if name]
    else:
        folders = ("medscroll", "tests", "tools", "docs", "recipes", "benchmarks")
        files = [path for folder in folders for path in (ROOT / folder).rglob("*") if "__pycache__" not in path.parts]
    texts = []
    for path in files:
        if path.is_file():
            try:
                path.read_text("utf-8")
            except UnicodeDecodeError:
                continue
            texts.append(path)
    assert len(texts) > 80
    return texts


@pytest.mark.parametrize(("pattern", "what"), [(PRIVATE_PATH, "path of a machine"), (UNFINISHED, "unfinished mark")])
def test_files_are_clean(pattern: re.Pattern[str], what: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match.group()}"
        for path in tracked()
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        for match in pattern.finditer(line)
    ]
    assert not found, f"{what}:\n" + "\n".join(found)


def test_pattern_of_paths_finds_some() -> None:
    assert PRIVATE_PATH.search("see " + "/ho" + "me/someone/data")
    assert not PRIVATE_PATH.search("docs/home/page and ~/work/x and https://a.b/root/c")


def test_tools_are_executable() -> None:
    for name in ("tools/install", "tools/demo", "tools/test", "tools/bundle", ".ci/run"):
        assert (ROOT / name).stat().st_mode & 0o111, f"{name} is not executable"


def test_folders_of_tests_are_packages() -> None:
    """Two files of one name in folders that are none cannot be collected together."""
    folders = {path.parent for path in (ROOT / "tests").rglob("test_*.py")}
    assert len(folders) > 4
    assert not [folder for folder in folders if not (folder / "__init__.py").is_file()]
