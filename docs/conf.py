"""Sphinx configuration: pages in Markdown (MyST), the tutorial executed, two references generated.

Built by ``make docs``, where every warning is an error.
"""

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import panimbus

HERE = Path(__file__).resolve().parent

project = "panimbus"
author = "The panimbus developers"
copyright = author  # noqa: A001 (Sphinx's name)
release = version = importlib.metadata.version("panimbus")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
templates_path = ["_templates"]
exclude_patterns = ["_build"]
default_role = "code"
smartquotes = False  # "--out" is an option, not a dash

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
copybutton_prompt_text = "$ "

# The tutorial's cells run in a folder of their own, with the commands of this environment first on
# the path.
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_merge_streams = True
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
os.environ["COLUMNS"] = "112"
os.environ["IPYTHONDIR"] = str(HERE / "_build" / "ipython")

autodoc_mock_imports = [
    "torch",
    "onnx",
    "timm",
]  # the extra `train` is not needed to read signatures
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autosummary_generate = [str(HERE / "reference" / "_names.md")]
napoleon_google_docstring = False

# No build depends on a server: links to other packages are made only where their inventories are at
# hand.
intersphinx_mapping = {}

html_theme = "sphinx_book_theme"
html_title = "panimbus"
html_static_path = ["_static"]
html_css_files = ["panimbus.css"]
html_theme_options = {"show_navbar_depth": 1, "use_download_button": False}


def _write_api() -> None:
    """List every name of ``panimbus.__all__``, by kind, for autosummary to document.

    Nothing is imported here: some names need an extra, which autosummary replaces by a mock.
    """
    groups: dict[str, list[str]] = {"Functions": [], "Classes": [], "Exceptions": []}
    for name in panimbus.__all__:
        if name.endswith("Error"):
            groups["Exceptions"].append(name)
        elif not name.startswith("_"):
            groups["Classes" if name[0].isupper() else "Functions"].append(name)
    lines = []
    for title, names in groups.items():
        lines += [
            f"## {title}",
            "",
            "```{eval-rst}",
            ".. currentmodule:: panimbus",
            "",
            ".. autosummary::",
        ]
        lines += [
            "   :toctree: generated",
            "   :nosignatures:",
            "",
            *(f"   {name}" for name in names),
            "```",
            "",
        ]
    (HERE / "reference" / "_names.md").write_text("\n".join(lines), encoding="utf-8")


def _write_cli() -> None:
    """Write the reference of the command line from the commands themselves."""
    command = [sys.executable, "-m", "typer", "panimbus.cli", "utils", "docs", "--name", "panimbus"]
    text = subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout  # noqa: S603
    body = text[text.index("\n## ") :].replace("```console", "```text")
    (HERE / "reference" / "_commands.md").write_text(body, encoding="utf-8")


def _write_kernel_settings() -> None:
    """Let a command that fails in the tutorial end the build; say nothing about local ports."""
    profile = HERE / "_build" / "ipython" / "profile_default"
    profile.mkdir(parents=True, exist_ok=True)
    settings = {"InteractiveShell.system_raise_on_error": True, "IPKernelApp.log_level": "ERROR"}
    lines = ["c = get_config()", *(f"c.{name} = {value!r}" for name, value in settings.items())]
    (profile / "ipython_kernel_config.py").write_text("\n".join(lines), encoding="utf-8")


_write_kernel_settings()
_write_api()
_write_cli()
exclude_patterns += ["reference/_*.md"]
