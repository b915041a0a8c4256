"""Size and order of the code, as one table with a column per tree.

    python tools/house.py                          # this tree
    python tools/house.py --before b93b24c         # beside the tree of a commit
    python tools/house.py --check                  # fail when a local name is on the list below
    python tools/house.py --before b93b24c --out benchmarks/house.md

Each tree is read as source, except for the options of the command line, which are counted in the
command itself, and the wheel, which is built. Rules of counting:

- logical lines: as `radon raw` counts them;
- modules: files of ``src``, ``__init__`` included;
- exposed names: classes and functions at the top level of a module that do not begin with an
  underscore; only those in ``__all__`` where the module has a literal one. Modules whose own name
  or whose package's name begins with an underscore expose nothing;
- settings fields: annotated fields of pydantic models and of dataclasses called ``...Settings``,
  ``...Config`` or ``...Options``, and of their base classes in the package;
- names defined twice: public or private classes and functions at the top level of two modules or
  more (``command`` and ``app``, which each command has, are not counted);
- import circles: strongly connected components of the graph of imports, late ones (inside
  functions) included and those for type checking left out. ``import a.b`` is an import of ``a.b``,
  not of ``a``;
- listed local names: parameters and variables of functions that are called as in ``LISTED``, once
  per function.
"""

from __future__ import annotations

import argparse
import ast
import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

HOME = Path(__file__).resolve().parents[1]
LISTED = frozenset(
    {"beside", "found", "hears", "here", "known", "mine", "ours", "said", "theirs", "told"}
    | {"way", "ways", "what", "who", "whose"}
)
PER_COMMAND = {"command", "app"}
_Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
_COUNT_OPTIONS = """
import json, typer
from panimbus.cli import app
def commands(command, path=()):
    options = [p.name for p in command.params if p.param_type_name == "option"]
    yield path, [name for name in options if not name.endswith("_completion")]
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, (*path, name))
print(json.dumps(list(commands(typer.main.get_command(app)))))
"""


@dataclass(frozen=True)
class Module:
    """A module of the package: its dotted name, its path and its syntax tree."""

    name: str
    path: Path

    @cached_property
    def tree(self) -> ast.Module:
        """The parsed source."""
        return ast.parse(self.path.read_text(encoding="utf-8"))

    @property
    def is_private(self) -> bool:
        """Whether a part of the dotted name begins with one underscore."""
        return any(part.startswith("_") and part != "__main__" for part in self.name.split("."))

    @property
    def package(self) -> str:
        """The package that relative imports start from."""
        return self.name if self.path.name == "__init__.py" else self.name.rpartition(".")[0]


class Tree:
    """A checkout of the repository.

    Parameters
    ----------
    root
        The folder with ``pyproject.toml``.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        files = sorted((root / "src").rglob("*.py"))
        self.modules = [Module(_dotted(path, root / "src"), path) for path in files]

    # -- size ----------------------------------------------------------------------------------

    def logical_lines(self, folder: str) -> int:
        """Logical lines of the Python files below a folder, as radon counts them."""
        from radon.raw import analyze

        files = (self.root / folder).rglob("*.py")
        return sum(analyze(path.read_text(encoding="utf-8")).lloc for path in files)

    def wheel_mb(self) -> float:
        """Size of the built wheel, MB."""
        with tempfile.TemporaryDirectory() as folder:
            _run("pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, str(self.root))
            (wheel,) = Path(folder).glob("*.whl")
            return wheel.stat().st_size / 1e6

    def readme_words(self) -> int:
        """Words of the README, separated by white space."""
        return len((self.root / "README.md").read_text(encoding="utf-8").split())

    def options(self) -> list[tuple[list[str], list[str]]]:
        """The commands of the command line with the names of their options."""
        source = str(self.root / "src")
        code = f"import sys; sys.path.insert(0, {source!r}){_COUNT_OPTIONS}"
        return json.loads(_run("-c", code))

    def commands(self) -> list[list[str]]:
        """The commands without those that only hold others."""
        paths = [path for path, _ in self.options()]
        groups = {tuple(path[:-1]) for path in paths if path}
        return [path for path in paths if tuple(path) not in groups]

    # -- names ---------------------------------------------------------------------------------

    def exposed_names(self) -> list[str]:
        """Dotted public names of the modules."""
        return [
            f"{module.name}.{name}"
            for module in self.modules
            if not module.is_private
            for name in _exposed(module.tree)
        ]

    def settings_fields(self) -> list[str]:
        """``Class.field`` of the classes that hold settings."""
        classes = {
            node.name: node
            for module in self.modules
            for node in module.tree.body
            if isinstance(node, ast.ClassDef)
        }
        settings = {name for name in classes if _is_settings(name, classes)}
        settings |= {base for name in settings for base in _bases(classes[name]) if base in classes}
        return [
            f"{name}.{field.target.id}"
            for name in sorted(settings)
            for field in classes[name].body
            if isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and "ClassVar" not in ast.unparse(field.annotation)
        ]

    def names_defined_twice(self, *, private: bool) -> dict[str, list[str]]:
        """Classes and functions defined in more than one module, with those modules."""
        modules = defaultdict(list)
        for module in self.modules:
            for node in module.tree.body:
                if isinstance(node, _Definition):
                    modules[node.name].append(module.name)
        return {
            name: places
            for name, places in sorted(modules.items())
            if len(places) > 1
            and name.startswith("_") == private
            and not name.startswith("__")
            and name not in PER_COMMAND
        }

    def listed_names(self) -> list[str]:
        """``path:line: name`` of local names that are in ``LISTED``."""
        return [
            f"{module.path.relative_to(self.root)}:{line}: {name}"
            for module in self.modules
            for name, line in sorted(_local_names(module.tree), key=lambda pair: pair[::-1])
            if name in LISTED
        ]

    def local_names(self) -> int:
        """Number of local names, once per function."""
        return sum(1 for module in self.modules for _ in _local_names(module.tree))

    # -- imports -------------------------------------------------------------------------------

    def import_circles(self) -> list[list[str]]:
        """Groups of modules that import each other, directly or through others."""
        names = [module.name for module in self.modules]
        position = {name: k for k, name in enumerate(names)}
        edges = [
            (position[module.name], position[target])
            for module in self.modules
            for target in _imports(module, set(names))
            if target != module.name
        ]
        rows, columns = np.asarray(edges, dtype=np.intp).reshape(-1, 2).T
        shape = (len(names), len(names))
        graph = csr_array((np.ones(len(edges), np.int8), (rows, columns)), shape=shape)
        _, component = connected_components(graph, directed=True, connection="strong")
        groups = defaultdict(list)
        for name, number in zip(names, component, strict=True):
            groups[number].append(name)
        return [group for group in groups.values() if len(group) > 1]


# -- the syntax tree -------------------------------------------------------------------------------


def _dotted(path: Path, source: Path) -> str:
    parts = path.relative_to(source).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _exposed(tree: ast.Module) -> set[str]:
    """Public classes and functions of a module; imported ones do not count."""
    names = {node.name for node in tree.body if isinstance(node, _Definition)}
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            try:
                return names & set(ast.literal_eval(node.value))
            except ValueError:  # computed
                break
    return {name for name in names if not name.startswith("_")}


def _bases(node: ast.ClassDef) -> list[str]:
    return [ast.unparse(base).rpartition(".")[2] for base in node.bases]


def _is_settings(name: str, classes: dict[str, ast.ClassDef]) -> bool:
    node = classes[name]
    bases = [base for base in _bases(node) if base != name]
    if "BaseModel" in bases or any(_is_settings(b, classes) for b in bases if b in classes):
        return True
    is_dataclass = any("dataclass" in ast.unparse(d) for d in node.decorator_list)
    return is_dataclass and name.endswith(("Settings", "Config", "Options"))


def _local_names(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Parameters and variables with their first line, once per function."""
    for function in ast.walk(tree):
        if not isinstance(function, _Function):
            continue
        lines: dict[str, int] = {}
        for node in _own_nodes(function):
            if isinstance(node, ast.arg):
                lines.setdefault(node.arg, node.lineno)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                lines.setdefault(node.id, node.lineno)
            elif isinstance(node, ast.ExceptHandler | _Definition) and node.name:
                lines.setdefault(node.name, node.lineno)
        yield from lines.items()


def _own_nodes(function: _Function) -> Iterator[ast.AST]:
    """Nodes of a function without those inside the functions that it defines."""
    waiting: list[ast.AST] = [function.args]
    waiting += function.body if isinstance(function.body, list) else [function.body]
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, _Function | ast.ClassDef):
            waiting.extend(ast.iter_child_nodes(node))


def _imports(module: Module, names: set[str]) -> set[str]:
    """Modules of the package that a module imports, at its top or later."""
    targets: set[str] = set()
    for node in _nodes_at_run_time(module.tree):
        if isinstance(node, ast.Import):
            targets |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = module.package.split(".")[: -(node.level - 1) or None] if node.level else []
            source = ".".join([*start, *([node.module] if node.module else [])])
            for alias in node.names:
                child = f"{source}.{alias.name}"
                targets.add(child if child in names else source)
    return targets & names


def _nodes_at_run_time(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those under ``if TYPE_CHECKING``."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from _nodes_at_run_time(node)


def _public_names(tree: Tree) -> list[str]:
    root = next(module for module in tree.modules if "." not in module.name)
    code = (
        f"import sys; sys.path.insert(0, {str(tree.root / 'src')!r}); import {root.name} as package"
    )
    return _run("-c", f"{code}; print(*package.__all__)").split()


# -- the table -------------------------------------------------------------------------------------

ROWS: dict[str, Callable[[Tree], object]] = {
    "logical lines of src": lambda tree: tree.logical_lines("src"),
    "logical lines of tools": lambda tree: tree.logical_lines("tools"),
    "logical lines of tests": lambda tree: tree.logical_lines("tests"),
    "logical lines of benchmarks": lambda tree: tree.logical_lines("benchmarks"),
    "modules": lambda tree: len(tree.modules),
    "names of `import panimbus`": lambda tree: len(_public_names(tree)),
    "exposed names": lambda tree: len(tree.exposed_names()),
    "commands": lambda tree: len(tree.commands()),
    "options of the commands": lambda tree: sum(len(options) for _, options in tree.options()),
    "settings fields": lambda tree: len(tree.settings_fields()),
    "public names defined twice": lambda tree: len(tree.names_defined_twice(private=False)),
    "private names defined twice": lambda tree: len(tree.names_defined_twice(private=True)),
    "import circles": lambda tree: len(tree.import_circles()),
    "local names": Tree.local_names,
    "local names on the list": lambda tree: len(tree.listed_names()),
    "words of the README": Tree.readme_words,
    "wheel, MB": lambda tree: f"{tree.wheel_mb():.1f}",
}


def table(trees: dict[str, Tree]) -> str:
    """Markdown table with a row per figure and a column per tree."""
    lines = [f"| | {' | '.join(trees)} |", f"|---|{'---:|' * len(trees)}"]
    for row, count in ROWS.items():
        values = [count(tree) for tree in trees.values()]
        texts = [f"{value:,}" if isinstance(value, int) else str(value) for value in values]
        lines.append(f"| {row} | {' | '.join(texts)} |")
    return "\n".join(lines) + "\n"


def details(tree: Tree) -> str:
    """The names behind the figures that are to be 0."""
    lines = [f"import circle: {', '.join(circle)}" for circle in tree.import_circles()]
    for name, modules in tree.names_defined_twice(private=False).items():
        lines.append(f"defined twice: {name} in {', '.join(modules)}")
    return "\n".join([*lines, *tree.listed_names()])


@contextmanager
def checkout(commit: str) -> Iterator[Path]:
    """A temporary work tree of a commit."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tree"
        git = ["git", "-C", str(HOME), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(path), commit], check=True)  # noqa: S603
        try:
            yield path
        finally:
            subprocess.run([*git, "remove", "--force", str(path)], check=True)  # noqa: S603


def _run(*arguments: str) -> str:
    """Output of this Python with arguments; ``pip`` and the like are modules."""
    command = [sys.executable, *([] if arguments[0] == "-c" else ["-m"]), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603


def main() -> int:
    """Print the table, or check the names."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--before", help="commit whose tree makes the first column")
    parser.add_argument("--out", type=Path, help="file that receives the table, too")
    parser.add_argument("--details", action="store_true", help="print names, not numbers")
    parser.add_argument("--check", action="store_true", help="fail on listed local names")
    args = parser.parse_args()
    tree = Tree(HOME)
    if args.check:
        names = tree.listed_names()
        print("\n".join(names) or "no local name is on the list")
        return int(bool(names))
    if args.details:
        print(details(tree))
        return 0
    if args.before:
        with checkout(args.before) as path:
            text = table({args.before: Tree(path), "now": tree})
    else:
        text = table({"now": tree})
    print(text, end="")
    if args.out:
        args.out.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
