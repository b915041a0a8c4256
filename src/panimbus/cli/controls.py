"""``panimbus controls``: what control channels tell of the calls of a result."""

from __future__ import annotations

import math
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from panimbus.cli import options

if TYPE_CHECKING:
    import pandas as pd


def command(
    results: Annotated[
        Path, options.files_argument("RESULTS", "Folder written by `panimbus predict`.")
    ],
    *,
    rate: Annotated[
        float,
        typer.Option(
            "--rate",
            metavar="SHARE",
            help="Accepted rate of false positives, above 0 and below 1.",
        ),
    ] = 0.01,
    controls: Annotated[
        str | None,
        typer.Option(
            "--controls",
            metavar="TEXT|FILE",
            help=(
                "Control of each marker: CD3=IgG1,CD8=IgG2a, or a CSV file (marker,control)."
                " [default: the one with the highest rate, of the same filter where names tell it]"
            ),
        ),
    ] = None,
    out: Annotated[
        Path | None,
        options.file(
            "--out", "CSV file of the thresholds that keep the rate, for `--thresholds` elsewhere."
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing file.")
    ] = False,
) -> None:
    """Estimate false positives from blank, autofluorescence and isotype channels.

    The share of a control's cells that reach a marker's threshold is the rate at which non-specific
    signal makes cells positive. Proposes the thresholds that keep it; nothing is changed.
    """
    from panimbus.cli.inputs import check_new_file
    from panimbus.core.controls import control_rates
    from panimbus.infer.rewrite import open_result
    from panimbus.io.assignments import read_controls
    from panimbus.io.files import atomic_path

    if out is not None:
        check_new_file(out, overwrite=overwrite)
    matched = read_controls(controls) if controls is not None else None
    rates = control_rates(open_result(results), rate=rate, controls=matched)
    _echo(rates, rate)
    if out is not None:
        kept = rates[rates["needed"].notna()]
        columns = {"marker": kept["marker"], "threshold": kept["needed"]}
        rest = kept[["control", "rate", "rate_as_bright", "false_share"]].round(4)
        with atomic_path(out) as path:
            kept.assign(**columns)[list(columns)].join(rest).to_csv(path, index=False)
        typer.echo(f"written: {out}")
        words = ["panimbus", "recalibrate", str(results), "--thresholds", str(out)]
        typer.echo(f"next: {shlex.join(words)}", err=True)


def _echo(rates: pd.DataFrame, rate: float) -> None:
    """A line per marker, and the markers that no threshold helps."""
    width = max(len("marker"), *(len(m) for m in rates["marker"]))
    wide = max(len("control"), *(len(c) for c in rates["control"]))
    typer.echo(
        f"{'marker':<{width}}  positive  {'control':<{wide}}  falsely positive (95 %)"
        f"   as bright  of the positive cells  threshold for {rate:.2%}"
    )
    for row in rates.to_dict("records"):
        unknown = math.isnan(row["rate"])  # recalibrated
        bounds = f"{row['rate']:.2%} ({row['rate_low']:.1%} to {row['rate_high']:.1%})"
        needed = "none" if math.isnan(row["needed"]) else f"{row['needed']:g}"
        false = "-" if math.isnan(row["false_share"]) else f"{row['false_share']:.1%}"
        bright = "-" if math.isnan(row["rate_as_bright"]) else f"{row['rate_as_bright']:.2%}"
        names = f"{row['marker']:<{width}}  {row['positive']:>8.1%}  {row['control']:<{wide}}"
        typer.echo(
            f"{names}  {'-' if unknown else bounds:>23}  {bright:>10}  {false:>21}"
            f"  {'-' if unknown else needed:>19}"
        )
    if odd := rates[rates["rate"].isna()]["marker"].tolist():
        typer.echo(
            f"note: recalibrated, so a control's scores do not bound them: {', '.join(odd)}",
            err=True,
        )
    lost = rates[rates["needed"].isna() & rates["rate"].notna()]["marker"].tolist()
    if lost:
        typer.echo(
            f"WARNING: no threshold below 1 keeps the rate for {', '.join(lost)}: cells of the"
            " control have the highest scores, too",
            err=True,
        )
