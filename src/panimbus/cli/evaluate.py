"""``panimbus evaluate``: calls in, how good a model is out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from panimbus.evaluate.config import EvalConfig
    from panimbus.judge import Judged


def command(  # noqa: PLR0913 (one parameter an option)
    what: Annotated[Path, typer.Argument(help="CALLS.csv (with --table), or a TOML file that names datasets.")],
    *,
    out: Annotated[Path, typer.Option(help="Folder for report.html and the tables.")],
    table: Annotated[Path | None, typer.Option(help="cells.h5ad of `panimbus predict`, judged by CALLS.csv.")] = None,
    images: Annotated[list[str] | None, typer.Option(help="With --table: images, for pictures of the most wrong cells.")] = None,
    labels: Annotated[list[str] | None, typer.Option(help="With --table: their label images.")] = None,
    mpp: Annotated[float | None, typer.Option(help="With --images: micrometres per pixel, if the files do not say.")] = None,
    silver: Annotated[Path | None, typer.Option(help="With --table: CSV of silver labels, judged like a method.")] = None,
    cell_types: Annotated[Path | None, typer.Option(help="With --table: CSV with fov, cell_id, cell_type.")] = None,
    model: Annotated[str | None, typer.Option(help="With TOML: name of a model, or path of a model file.")] = None,
    only: Annotated[str | None, typer.Option(help="With TOML: only these datasets, comma-separated.")] = None,
    data: Annotated[Path | None, typer.Option(help="With TOML: folder that its paths are relative to, instead of root.")] = None,
    tta: Annotated[
        str | None, typer.Option(help="With TOML: test-time augmentation, full, auto or none. [default: the model's]")
    ] = None,
    likely: Annotated[
        bool | None, typer.Option(help="With --table: whether likely positive and likely negative calls count. [default: yes]")
    ] = None,
    summary: Annotated[Path | None, typer.Option(help="Also write the tables here: SUMMARY.md and SUMMARY.csv.")] = None,
) -> None:
    """Judge scores by calls: F1 by marker, dataset, tissue, cell type; baselines, calibration, confounders; one HTML page."""
    from panimbus.core.errors import InputError

    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file.", expected="a folder")
    of_table = {"--images": images, "--labels": labels, "--mpp": mpp, "--silver": silver, "--cell-types": cell_types}
    of_table |= {"--likely": likely}
    of_toml = {"--model": model, "--only": only, "--data": data, "--tta": tta}
    if wrong := [k for k, v in (of_toml if table is not None else of_table).items() if v not in (None, [])]:
        raise InputError(
            f"{', '.join(wrong)} cannot be used {'with' if table is not None else 'without'} --table.",
            fix="leave it away: the table is scored already" if table is not None else "name it in the TOML file",
        )
    if table is None and what.suffix.lower() != ".toml":
        raise InputError(f"{what} is not a TOML file.", fix="pass --table cells.h5ad to judge a table by calls")
    from panimbus import judge
    from panimbus.evaluate.calls import read_calls, read_cell_types, read_silver
    from panimbus.evaluate.config import load_config
    from panimbus.evaluate.scored import Beside
    from panimbus.io import open_fovs
    from panimbus.io.h5ad import read_h5ad

    if table is None:
        names = tuple(n.strip() for n in only.split(",") if n.strip()) if only else ()
        config = load_config(what, root=data).only(names)
        found = judge.of_config(config, model=model, tta=tta, say=lambda line: typer.echo(line, err=True))
        _save(found, out, what.stem, summary, config)
        return
    calls, scores = read_calls(what, likely=likely is not False), read_h5ad(table)
    beside = Beside(
        cell_types=read_cell_types(cell_types) if cell_types else None, silver=read_silver(silver) if silver else None
    )
    if bool(images) != bool(labels):
        raise InputError("--images and --labels go together.")
    fovs = open_fovs(list(images), list(labels), mpp=mpp) if images and labels else []
    _save(judge.of_table(calls, scores, beside, fovs), out, f"{what.name}, {table.name}", summary)


def _save(found: Judged, out: Path, title: str, summary: Path | None, config: EvalConfig | None = None) -> None:
    """Judge, write, and say the main figures."""
    import shlex
    import sys
    from datetime import UTC, datetime

    from panimbus.evaluate.report import write_report
    from panimbus.evaluate.tables import means_rows, plain, write_summary, write_tables

    result = found.evaluate(config)
    said = shlex.join(["panimbus", *sys.argv[1:]])
    about = {"title": title, **found.about(), "date": datetime.now(UTC).strftime("%Y-%m-%d"), "command": said}
    write_tables(result, out, about)
    page = write_report(result, out, about, found.scenes)
    if summary is not None:
        write_summary(result, summary, about)
    typer.echo(f"{plain(means_rows(result))}\nreport:  {page}\ntables:  {out}")
