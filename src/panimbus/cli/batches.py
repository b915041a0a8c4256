"""``panimbus batches``: how the batches of a result differ."""

from __future__ import annotations

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
    batches: options.Batches = None,
    before: Annotated[
        Path | None,
        options.folder(
            "--before",
            "Other results of the same cells, such as those with one normaliser for all batches:"
            " calls that changed since then, by batch.",
        ),
    ] = None,
    out: Annotated[
        Path | None, options.file("--out", "CSV file of all batches and markers.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing file.")
    ] = False,
) -> None:
    """Compare staining days, slides or patients, marker by marker.

    Needs no images. Prints the markers in which a batch differs more than the FOVs of one batch
    differ among themselves; nothing is corrected.
    """
    from panimbus.cli.inputs import check_new_file
    from panimbus.core.batches import add_batches, changed_calls, compare_batches
    from panimbus.core.errors import InputError
    from panimbus.core.table import BATCH, FOV
    from panimbus.infer.rewrite import open_result
    from panimbus.io.assignments import read_batches
    from panimbus.io.files import atomic_path

    if out is not None:
        check_new_file(out, overwrite=overwrite)
    table = open_result(results)
    if batches is not None:
        add_batches(table, read_batches(batches, list(dict.fromkeys(table.obs[FOV].astype(str)))))
    elif BATCH not in table.obs:
        raise InputError(
            f"{results}: the result does not say which batch an FOV is of.",
            fix="pass --batches, here or when you predict",
        )
    if before is None:
        compared = compare_batches(table)
        _echo_differences(compared)
    else:
        compared = changed_calls(open_result(before), table)
        _echo_changes(compared)
    if out is not None:
        with atomic_path(out) as path:
            compared.round(6).to_csv(path, index=False)
        typer.echo(f"written: {out}")


def _echo_differences(compared: pd.DataFrame) -> None:
    from panimbus.core.batches import describe_batches

    sizes = compared.drop_duplicates("batch")
    for row in sizes.itertuples():
        typer.echo(f"batch {row.batch}: {row.fovs} FOV{'s' * (row.fovs != 1)}")
    if compared["p_value"].isna().all():
        typer.echo(
            "too few FOVs per batch: what differs between batches cannot be told from what differs"
            " between FOVs"
        )
        return
    for line in describe_batches(compared) or ["no batch differs more than FOVs of one batch do"]:
        typer.echo(line)


def _echo_changes(compared: pd.DataFrame) -> None:
    for batch, rows in compared.groupby("batch", sort=True):
        changed = float((rows["changed"] * rows["cells"]).sum() / rows["cells"].sum())
        typer.echo(f"batch {batch}: {changed:.2%} of the calls changed")
        largest = rows.sort_values("changed", ascending=False).head(10)
        for row in largest[largest["changed"] > 0].itertuples():
            typer.echo(
                f"  {row.marker}: {row.changed:.1%}, positive {row.positive_before:.1%} before,"
                f" {row.positive_after:.1%} after"
            )
