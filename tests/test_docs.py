"""The docs name only what there is: files, commands, options, public names; and the words hold."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.main import get_command

import panimbus
from panimbus.cli import app

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted(
        p
        for p in (ROOT / "docs").rglob("*.md")
        if "_build" not in p.parts and not p.name.startswith("_")
    ),
    *sorted((ROOT / "examples").rglob("README.md")),
]
FOLDERS = "benchmarks|docs|examples|src|tests|tools"


def text_of(page):
    return page.read_text(encoding="utf-8")


def named(page):
    return str(page.relative_to(ROOT))


pages = pytest.mark.parametrize("page", PAGES, ids=named)


@pages
def test_links_lead_to_files(page):
    targets = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", text_of(page))
    if page.name == "contributing.md":
        return  # includes CONTRIBUTING.md, which is looked at itself
    assert [t for t in targets if not (page.parent / t).exists()] == []


@pages
def test_paths_exist(page):
    paths = re.findall(rf"`((?:{FOLDERS})/(?!_build/)[\w./-]+)`", text_of(page))
    modules = [
        f"src/panimbus/{m}"
        for m in re.findall(r"`((?:core|io|infer)/\w+(?:\.py)?)`", text_of(page))
    ]
    assert [
        p
        for p in [*paths, *modules]
        if not any((ROOT / f"{p}{end}").exists() for end in ("", ".py"))
    ] == []


def _commands(command, name="panimbus"):
    yield (
        name,
        {
            option
            for parameter in command.params
            for option in (*parameter.opts, *parameter.secondary_opts)
        },
    )
    for verb, child in getattr(command, "commands", {}).items():
        yield from _commands(child, f"{name} {verb}")


@pages
def test_commands_and_options_exist(page):
    options = dict(_commands(get_command(app)))
    unknown = []
    fences = "\n".join(re.findall(r"```[^\n]*\n(.*?)```", text_of(page), re.DOTALL))
    lines = re.findall(r"^!?(panimbus [a-z][^\n|>]*)", fences, re.MULTILINE)
    lines += re.findall(
        r"`(panimbus [a-z][^`|>]*)`", re.sub(r"```.*?```", "", text_of(page), flags=re.DOTALL)
    )
    for line in lines:
        words = line.split("#")[0].split()
        verb = next((v for v in (" ".join(words[:3]), " ".join(words[:2])) if v in options), None)
        unknown += (
            [line]
            if verb is None
            else [w for w in words if w.startswith("--") and w not in options[verb]]
        )
    anywhere = set().union(*options.values()) | {"--version", "--help"}
    foreign = {
        "--only",
        "--no-deps",
        "--nworkers",
        "--nthreads",
        "--scheduler-file",
    }  # of other programs
    quoted = re.findall(r"`(--[a-z-]+)", text_of(page))
    assert unknown + [o for o in quoted if o not in anywhere | foreign] == []


@pages
def test_public_names_exist(page):
    names = re.findall(
        r"\bpanimbus\.([A-Za-z_]\w*)\b(?!/)", re.sub(r"panimbus\.(zarr|git)", "", text_of(page))
    )
    modules = {p.stem for p in (ROOT / "src" / "panimbus").iterdir()}
    assert [
        n
        for n in names
        if n not in panimbus.__all__ and n not in modules and not n.startswith("__")
    ] == []


def test_readme_is_short_and_names_the_two_commands():
    text = text_of(ROOT / "README.md")
    assert len(text.split()) <= 600
    assert "make demo" in text
    assert "make test" in text
    assert "10.1038/s41592-025-02826-9" in text


def test_no_link_of_the_readme_is_dead_on_pypi():
    settings = tomllib.loads(text_of(ROOT / "pyproject.toml"))["tool"]["hatch"]["metadata"]["hooks"]
    text = text_of(ROOT / "README.md")
    for substitution in settings["fancy-pypi-readme"]["substitutions"]:
        text = re.sub(substitution["pattern"], substitution["replacement"], text)
    targets = re.findall(r"\]\(([^)]*)\)", text)
    assert targets
    assert all(target.startswith("https://") for target in targets)


def test_the_steps_to_add_a_format_name_what_there_is():
    section = (
        text_of(ROOT / "CONTRIBUTING.md").partition("## Add a file format")[2].partition("## ")[0]
    )
    names = re.findall(r"`(Kind|SUPPORTED|sniff|read_metadata|_folder|ReadResult)`", section)
    discover = text_of(ROOT / "src" / "panimbus" / "io" / "discover.py")
    assert set(names) == {"Kind", "SUPPORTED", "sniff", "read_metadata", "_folder", "ReadResult"}
    assert [name for name in names if not re.search(rf"\b{name}\b", discover)] == []


def test_the_design_page_has_the_rooms_and_their_order():
    text = text_of(ROOT / "docs" / "architecture.md")
    rooms = {p.parent.name for p in (ROOT / "src" / "panimbus").glob("*/__init__.py")}
    assert set(re.findall(r"^\| `(\w+)/` \|", text, re.MULTILINE)) == rooms
    contracts = tomllib.loads(text_of(ROOT / "pyproject.toml"))["tool"]["importlinter"]["contracts"]
    (layers,) = (c["layers"] for c in contracts if c["type"] == "layers")
    order = re.search(r"```text\n(core\s.*?)```", text, re.DOTALL)[1]
    drawn = [set(re.findall(r"\w+", layer)) for layer in order.split("->")]
    assert drawn[::-1] == [
        set(re.findall(r"\w+", layer.replace("panimbus.", ""))) for layer in layers
    ]


def test_every_page_is_in_the_contents():
    index = text_of(ROOT / "docs" / "index.md")
    listed = set(re.findall(r"^[\w/]+$", index, re.MULTILINE))
    pages = {
        p.relative_to(ROOT / "docs").with_suffix("").as_posix()
        for p in PAGES
        if (ROOT / "docs") in p.parents
    }
    assert {p for p in pages if "generated" not in p} - listed == {"index"}


def test_the_words_of_the_glossary_stand_in_order():
    text = text_of(ROOT / "docs" / "glossary.md")
    words = re.findall(r"^(\w[\w -]*)\n  \w", text, re.MULTILINE)
    assert words == sorted(words, key=str.lower)
    assert {
        "FOV",
        "channel",
        "marker",
        "label image",
        "annotation",
        "normaliser",
        "shard",
        "positive",
    } <= set(words)


@pytest.mark.slow
@pytest.mark.parametrize("page", ["tutorial.md", "loop.md"])
def test_the_tutorials_on_real_tissue(page, shared_data, tmp_path):
    (commands,) = re.findall(r"```sh\n(.*?)```", text_of(ROOT / "docs" / page), re.DOTALL)
    for folder in ("examples", "benchmarks"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    result = subprocess.run(
        ["bash", "-euc", commands],  # noqa: S607
        env={**os.environ, "PATH": path, "PANIMBUS_DATA": str(shared_data)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "typed to the finest level" in result.stdout
    assert (tmp_path / "spleen_types" / "report.html").exists()
