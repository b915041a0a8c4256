"""Benchmarks and tools import only names that there are: they are run too seldom to notice."""

import ast
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted([*ROOT.glob("benchmarks/**/*.py"), *ROOT.glob("tools/*.py")])
BESIDE = {path.stem for path in SCRIPTS}


def defined(path):
    """Names at the top of a module."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        for part in ast.walk(node) if isinstance(node, ast.Assign | ast.AnnAssign) else ():
            if isinstance(part, ast.Name):
                names.add(part.id)
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= {a.asname or a.name for a in node.names}
    return names


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports(script):
    missing = []
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom) or node.module is None:
            continue
        names = [alias.name for alias in node.names]
        if node.module.split(".")[0] == "panimbus":
            module = pytest.importorskip(node.module)
            for name in names:
                if not hasattr(module, name):
                    try:
                        importlib.import_module(f"{node.module}.{name}")
                    except ModuleNotFoundError:
                        missing.append(f"{node.module}.{name}")
        elif node.module in BESIDE:
            there = set().union(*(defined(p) for p in SCRIPTS if p.stem == node.module))
            missing += [f"{node.module}.{name}" for name in names if name not in there]
    assert missing == []
