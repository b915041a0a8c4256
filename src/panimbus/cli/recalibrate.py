"""``panimbus recalibrate``: right the calls of a result by a few answers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from panimbus.cli import options

if TYPE_CHECKING:
    from panimbus.finetune.recalibrate import Recalibrated


def command(
    results: Annotated[
        Path, options.files_argument("RESULTS", "Folder written by `panimbus predict`.")
    ],
    annotations: Annotated[
        list[Path] | None,
        options.files_argument(
            "[ANNOTATIONS]...",
            "CSV tables (fov, cell_id, channel, call) or logs. [default: the log in RESULTS]",
        ),
    ] = None,
    *,
    types: Annotated[
        list[Path] | None,
        options.folder(
            "--types",
            "Folder of `panimbus phenotype run` to follow; repeatable. [default: those in RESULTS]",
        ),
    ] = None,
    thresholds: Annotated[
        str | None,
        typer.Option(
            "--thresholds",
            metavar="TEXT|FILE",
            help="Instead of annotations: CD20=0.7,CD4=0.6, or a CSV file (marker,threshold).",
        ),
    ] = None,
    take_back: Annotated[
        str | None,
        typer.Option(
            "--take-back",
            metavar="MARKERS",
            help=(
                "Give markers, comma-separated, or `all` their scores and thresholds from before"
                " recalibration."
            ),
        ),
    ] = None,
) -> None:
    """Refit the markers of a result to annotations; nothing is scored.

    Three to ten annotations per marker help most next to the threshold (`panimbus annotate draw`).
    Rewrites calls, tables and types, and RESULTS/recalibration.csv; a marker keeps its scores where
    the new ones are clearly worse on held-out annotations.
    """
    from panimbus.cli.console import RunLog
    from panimbus.core.errors import InputError
    from panimbus.core.table import recalibrated_markers
    from panimbus.finetune.recalibrate import recalibrate
    from panimbus.finetune.recalibrate import take_back as restore
    from panimbus.infer.rewrite import open_result

    if sum((bool(annotations), thresholds is not None, take_back is not None)) > 1:
        raise InputError(
            "Annotations, --thresholds and --take-back cannot be combined.", fix="pass one of them"
        )
    log = RunLog("recalibrate", str(results), quiet=True)
    if thresholds is not None:
        _set_thresholds(results, thresholds, types)
    elif take_back is not None:
        named = None if take_back.strip().lower() == "all" else options.names_in(take_back)
        if named is not None and not named:
            raise InputError(
                "--take-back names no marker.", expected="names, comma-separated, or all"
            )
        before = recalibrated_markers(open_result(results))
        after = recalibrated_markers(restore(results, named, types=types))
        typer.echo(f"taken back: {', '.join(m for m in before if m not in after)}")
    else:
        from panimbus.annotations.read import read_annotations

        table = read_annotations(annotations or results)
        _echo(recalibrate(results, table, types=types))
    log.end(results)


def _set_thresholds(results: Path, text: str, types: list[Path] | None) -> None:
    from panimbus.finetune.rewrite import rewrite
    from panimbus.infer.rewrite import Changes, open_result
    from panimbus.io.assignments import parse_thresholds

    table = open_result(results)
    limits = parse_thresholds(text, list(map(str, table.var_names)))
    rewrite(results, Changes(thresholds=limits), types=types)
    typer.echo("thresholds: " + ", ".join(f"{m} {t:g}" for m, t in limits.items()))


def _echo(result: Recalibrated) -> None:
    """Notes, a line per marker, and the outcome."""
    from panimbus.finetune.recalibrate import recalibration_sentence

    for note in result.notes:
        typer.echo(f"note: {note}", err=True)
    width = max(len(m) for m in result.markers["marker"])
    typer.echo(f"{'marker':<{width}}  answers  F1 before  after  calls changed")
    for row in result.markers.to_dict("records"):
        kept = "" if row["kept"] == "new" else "  old scores kept"
        typer.echo(
            f"{row['marker']:<{width}}  {row['answers']:>7}  {_two(row['f1_before']):>9}"
            f"  {_two(row['f1_after']):>5}  {row['changed']:>13,}{kept}"
        )
    typer.echo(recalibration_sentence(result))


def _two(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"
