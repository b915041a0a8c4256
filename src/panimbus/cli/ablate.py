"""``panimbus ablate``: the same training with one setting changed at a time, as a table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from panimbus.cli import options


def command(
    sweep: Annotated[
        Path,
        options.files_argument(
            "FILE", "TOML file: base settings, seeds, and one [[arm]] per row of the table."
        ),
    ],
    *,
    store: Annotated[
        Path,
        options.folder(
            "--store", "Store of tiles written by `panimbus build`; an arm may name another one."
        ),
    ],
    out: Annotated[
        Path,
        options.folder("--out", "Folder; the same command continues an interrupted run."),
    ],
) -> None:
    """Train every arm with every seed; write ablation.csv and ablation.md to --out."""
    from panimbus.core.errors import InputError, need_extra
    from panimbus.data.store import Store
    from panimbus.train.examples import check_fits
    from panimbus.train.sweep import arm_config, load_sweep, run_sweep, sweep_markdown

    plan = load_sweep(sweep)
    stores = {
        path: Store.open(store if path is None else path)
        for path in {arm.store for arm in plan.arm}
    }
    problems = []
    for arm in plan.arm:
        try:
            check_fits(arm_config(plan, arm, plan.seeds[0]), stores[arm.store])
        except InputError as error:
            problems.append(f"arm {arm.name!r}: {error}")
    if problems:
        raise InputError("\n".join(problems))
    need_extra("training", "train", "torch")
    from panimbus.train.loop import train

    running: list[str] = []

    def show(name: str, _: object) -> None:
        if running[-1:] != [name]:
            running.append(name)
            typer.echo(f"training: {name}", err=True)

    table = run_sweep(plan, stores, out, train=train, progress=show)
    typer.echo(sweep_markdown(table))
    typer.echo(f"tables: {out / 'ablation.csv'}, {out / 'ablation.md'}")
