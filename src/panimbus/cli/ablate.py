"""``panimbus ablate``: the same training with one thing changed at a time, as a table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from panimbus.cli import options


def command(
    sweep: Annotated[
        Path,
        typer.Argument(
            parser=options.path,
            metavar="FILE",
            help="TOML: base settings, seeds, and one [[arm]] a line of the table.",
        ),
    ],
    *,
    store: Annotated[
        Path,
        typer.Option(
            parser=options.path,
            metavar="FOLDER",
            help="Store of tiles that `panimbus build` wrote; an arm may name another.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            parser=options.path,
            metavar="FOLDER",
            help="Folder; the same command goes on there after an interruption.",
        ),
    ],
) -> None:
    """Train every arm with every seed; write ablation.csv and ablation.md into --out."""
    from panimbus.core.errors import InputError, MissingExtraError
    from panimbus.data.store import Store
    from panimbus.train.examples import check_fits
    from panimbus.train.sweep import arm_config, load_sweep, markdown, run_sweep

    found = load_sweep(sweep)
    stores = {
        place: Store.open(store if place is None else place)
        for place in {arm.store for arm in found.arm}
    }
    problems = []
    for arm in found.arm:
        try:
            check_fits(arm_config(found, arm, found.seeds[0]), stores[arm.store])
        except InputError as error:
            problems.append(f"arm {arm.name!r}: {error}")
    if problems:
        raise InputError("\n".join(problems))
    try:
        from panimbus.train.loop import train
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise MissingExtraError("training", "train") from error
    said: list[str] = []

    def show(name: str, _: object) -> None:
        if said[-1:] != [name]:
            said.append(name)
            typer.echo(f"training: {name}", err=True)

    table = run_sweep(found, stores, out, train=train, progress=show)
    typer.echo(markdown(table))
    typer.echo(f"tables: {out / 'ablation.csv'}, {out / 'ablation.md'}")
