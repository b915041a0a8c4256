"""Commands that other packages add."""

import os
import subprocess
import sys


def test_an_installed_package_adds_a_command(tmp_path):
    """The name of the group is a promise to other packages: it is written out here."""
    (tmp_path / "greeting.py").write_text(
        "import typer\n"
        "app = typer.Typer()\n"
        "@app.command()\n"
        "def hello(name: str) -> None:\n"
        "    typer.echo('hello ' + name)\n"
        "@app.command()\n"
        "def bye() -> None: ...\n"
    )
    info = tmp_path / "greeting-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[panimbus.commands]\ngreet = greeting:app\n")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-m", "panimbus", "greet", "hello", "tissue"],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "hello tissue\n"), done.stderr
