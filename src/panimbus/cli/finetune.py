"""``panimbus finetune``: adapt a model to your own annotations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from panimbus.cli import options


def command(  # noqa: PLR0913 (one parameter per option)
    images: Annotated[
        list[str],
        typer.Argument(
            parser=options.word,
            metavar="IMAGES",
            help="All images of the dataset; the normaliser is fitted to all of them.",
        ),
    ],
    *,
    labels: options.Labels = None,
    pairs: options.Pairs = None,
    annotations: Annotated[
        list[Path],
        options.file(
            "--annotations",
            "Annotations: CSV with fov, cell_id, channel, call (and annotator, sampling_weight);"
            " repeatable.",
        ),
    ],
    out: Annotated[Path, options.folder("--out", "New folder for the model and the report.")],
    model: options.Model = None,
    channel_names: options.ChannelNames = None,
    mpp: options.Mpp = None,
    normaliser: options.Normaliser = None,
    training_steps: Annotated[
        int | None,
        typer.Option(
            "--steps", metavar="NUMBER", help="Number of training steps. [default: 200]", min=1
        ),
    ] = None,
    seed: options.Seed = 0,
    device: Annotated[
        options.Device,
        options.choice("--device", "Device that runs the network: auto, cpu or cuda."),
    ] = options.Device.auto,
    recalibrate: Annotated[
        bool, typer.Option("--recalibrate", "--per-marker", hidden=True)
    ] = False,
) -> None:
    """Fine-tune a model on your annotations.

    The new model is kept only if it is better on held-out annotations. Writes report.md and the
    model to --out.
    """
    from panimbus.annotations.read import read_annotations
    from panimbus.cli.console import plural, running
    from panimbus.cli.inputs import command_line, open_given
    from panimbus.core.errors import InputError, need_extra
    from panimbus.infer.output import read_normaliser
    from panimbus.model.weights import resolve_model

    if recalibrate:
        raise InputError(
            "finetune no longer recalibrates: the result is recalibrated instead of the model.",
            fix="panimbus recalibrate RESULTS ANNOTATIONS (RESULTS: the folder of `panimbus"
            " predict`)",
        )
    need_extra("fine-tuning", "train", "torch")
    from panimbus.finetune.finetune import check_count, finetune
    from panimbus.finetune.report import check_out, save_finetuned, sentence
    from panimbus.finetune.steps import settings_of

    number = {} if training_steps is None else {"steps": training_steps}
    settings = settings_of(seed=seed, device=device.value, **number)
    check_out(out)
    resolve_model(model)  # an unknown model is an error before the images are opened
    table = read_annotations(annotations)
    check_count(table)  # and so are too few annotations
    scale = read_normaliser(normaliser) if normaliser is not None else None
    fovs = open_given(images, labels, pairs=pairs, mpp=mpp, channel_names=channel_names)
    about = f"{plural(len(fovs), 'FOV')}, {plural(len(table), 'annotation')}"
    with running("finetune", about, fovs=len(fovs)) as log:
        result = finetune(fovs, table, model=model, scale=scale, settings=settings, progress=log)
    path = save_finetuned(result, out, command=command_line())
    for note in result.notes:
        typer.echo(f"note: {note}", err=True)
    typer.echo(sentence(result))
    typer.echo(f"report:  {out / 'report.md'}")
    then = None
    if path is not None:
        typer.echo(f"model:   {path}")
        then = f"panimbus predict IMAGES --labels LABELS --model {path} --out RESULTS"
    log.end(out, then)
