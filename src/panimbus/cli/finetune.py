"""``panimbus finetune``: a model that agrees with your own calls, if it becomes better by it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from panimbus.cli import options


def command(  # noqa: PLR0913 (one parameter an option)
    images: Annotated[
        list[str],
        typer.Argument(
            parser=options.word,
            metavar="IMAGES",
            help="All images of the dataset: the normaliser is fitted on them together.",
        ),
    ],
    *,
    labels: options.Labels = None,
    pairs: options.Pairs = None,
    calls: Annotated[
        list[Path],
        typer.Option(
            "--calls",
            parser=options.path,
            metavar="FILE",
            help=(
                "CSV with fov, cell_id, channel, call (and annotator, sampling_weight); may be"
                " given several times."
            ),
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            parser=options.path,
            metavar="FOLDER",
            help="A new folder for the model and the report.",
        ),
    ],
    model: options.Model = None,
    recalibrate: Annotated[
        bool,
        typer.Option(
            "--recalibrate", help="Only a temperature and an offset: tens of calls are enough."
        ),
    ] = False,
    per_marker: Annotated[
        bool, typer.Option("--per-marker", help="With --recalibrate: a pair a marker.")
    ] = False,
    channel_names: options.ChannelNames = None,
    mpp: options.Mpp = None,
    normaliser: options.Normaliser = None,
    training_steps: Annotated[
        int | None,
        typer.Option("--steps", metavar="NUMBER", help="Training steps. [default: 200]", min=1),
    ] = None,
    seed: options.Seed = 0,
    device: Annotated[
        options.Device,
        typer.Option(
            "--device", case_sensitive=False, help="What runs the net: auto, cpu or cuda."
        ),
    ] = options.Device.AUTO,
) -> None:
    """Change a model by your calls; it is kept only if it is better on held-out ones.

    Writes report.md and the model.
    """
    from panimbus.annotations.table import read_annotations
    from panimbus.cli.console import running, steps
    from panimbus.cli.inputs import command_line, open_given, refuse_labels_among
    from panimbus.core.errors import InputError, MissingExtraError
    from panimbus.infer.output import load_scale
    from panimbus.model.weights import resolve_model

    try:
        from panimbus.finetune.finetune import check_count, finetune
        from panimbus.finetune.report import check_out, save, sentence
        from panimbus.finetune.steps import settings_of
    except ImportError as error:
        raise MissingExtraError("fine-tuning", "train") from error
    if per_marker and not recalibrate:
        raise InputError("--per-marker belongs to recalibration.", fix="pass --recalibrate too")
    how = "markers" if per_marker else "recalibrate" if recalibrate else "weights"
    settings = settings_of(
        how=how,
        seed=seed,
        device=device.value,
        **({} if training_steps is None else {"steps": training_steps}),
    )
    check_out(out)
    resolve_model(model)  # an unknown model is said before the files are opened
    table = read_annotations(calls)
    check_count(table, settings)  # too few calls are said before the images are opened
    scale = load_scale(normaliser) if normaliser is not None else None
    fovs = open_given(images, labels, pairs=pairs, mpp=mpp, channel_names=channel_names)
    if any(fov.labels is None for fov in fovs):
        refuse_labels_among(images)
    with running(
        "finetune", f"{len(fovs)} FOV{'s' * (len(fovs) != 1)}, {len(table):,} calls", fovs=len(fovs)
    ) as log:
        found = finetune(
            fovs, table, model=model, scale=scale, settings=settings, report=steps(log)
        )
    path = save(found, out, command=command_line())
    for note in found.notes:
        typer.echo(f"note: {note}", err=True)
    typer.echo(sentence(found))
    typer.echo(f"report:  {out / 'report.md'}" + (f"\nmodel:   {path}" if path is not None else ""))
    log.end(
        out,
        (
            None
            if path is None
            else f"panimbus predict IMAGES --labels LABELS --model {path} --out RESULTS"
        ),
    )
