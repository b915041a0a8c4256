"""``panimbus train``: from a store of tiles to a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from panimbus.cli import options


def command(
    config: Annotated[
        str,
        typer.Argument(
            parser=options.word,
            metavar="PRESET|FILE",
            autocompletion=options.complete_presets,
            help="Settings: a preset (small, default, paper) or a TOML file.",
        ),
    ],
    *,
    store: Annotated[
        Path | None,
        options.folder(
            "--store", "Store written by `panimbus build`; not needed with simulated tissue."
        ),
    ] = None,
    out: Annotated[
        Path,
        options.folder(
            "--out", "Folder of the run; the same command continues an interrupted run."
        ),
    ],
    seed: Annotated[
        int | None,
        typer.Option(metavar="NUMBER", help="Random seed. [default: set by the settings]"),
    ] = None,
    device: Annotated[
        options.Device | None,
        options.choice("--device", "Device that runs the network. [default: set by the settings]"),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="NUMBER", min=0, help="Processes that prepare crops; 0 uses a thread instead."
        ),
    ] = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Also write curves for TensorBoard.")
    ] = False,
) -> None:
    """Train a model; presets `small` and `paper` add a noise-robust stage.

    Writes model.safetensors and model.onnx to --out.
    """
    import os

    from panimbus.cli.console import train_progress
    from panimbus.cli.inputs import prepare_out
    from panimbus.core.errors import need_extra
    from panimbus.train.config import load_config, make_config
    from panimbus.train.fovs import open_store

    settings = load_config(config)
    machine = {
        "device": options.value(device),
        "workers": workers,
        "tensorboard": tensorboard or None,
    }
    changed = settings.machine.model_dump() | {k: v for k, v in machine.items() if v is not None}
    whole = settings.model_dump() | {"machine": changed} | ({} if seed is None else {"seed": seed})
    settings = make_config(whole, source=f"{config} with the options of the command line")
    is_main = os.environ.get("RANK", "0") == "0"
    if is_main:
        prepare_out(out)
    examples = None if store is None else open_store(store)
    need_extra("training", "train", "torch")
    from panimbus.train.loop import train

    count = "" if examples is None else f"{len(examples.examples):,} examples, "
    about = f"{config}, {count}{settings.stages.total:,} steps"
    with train_progress(about, show=is_main) as (show, log):
        result = train(settings, examples, out, show)
    if result:
        typer.echo(
            f"best step {result['step']} of {result['steps']}: validation F1 {result['val_f1']:.3f}"
            " (silver labels)"
        )
        typer.echo(f"model:  {out / 'model.safetensors'}, {out / 'model.onnx'}")
        typer.echo(
            f"curves: {out / 'curves.csv'}; pictures: {out / 'epochs'}; markers:"
            f" {out / 'markers.csv'}"
        )
        log.end(
            out,
            f"panimbus predict IMAGES --labels LABELS --model {out / 'model.safetensors'} --out"
            " RESULTS",
        )
