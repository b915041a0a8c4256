"""``panimbus finetune``: a model that agrees with your own calls, if it becomes better by it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(  # noqa: PLR0913 (one parameter an option)
    calls: Annotated[list[Path], typer.Argument(help="CSV with fov, cell_id, channel, call (and annotator, sampling_weight).")],
    *,
    images: Annotated[list[str], typer.Option(help="All images of the dataset: the normaliser is fitted on them together.")],
    labels: Annotated[list[str] | None, typer.Option(help="Label images: a file, or a folder matched by name.")] = None,
    out: Annotated[Path, typer.Option(help="A new folder for the model and the report.")],
    model: Annotated[str | None, typer.Option(help="The model to begin with (see `panimbus models`), or a model file.")] = None,
    recalibrate: Annotated[
        bool, typer.Option("--recalibrate", help="Only a temperature and an offset: tens of calls are enough.")
    ] = False,
    per_marker: Annotated[bool, typer.Option("--per-marker", help="With --recalibrate: a pair a marker.")] = False,
    channel_names: Annotated[
        Path | None, typer.Option(help="Text or CSV file of channel names, for images that do not name theirs.")
    ] = None,
    mpp: Annotated[float | None, typer.Option(help="Micrometres per pixel, if the files do not say or are wrong.")] = None,
    normaliser: Annotated[Path | None, typer.Option(help="normaliser.json of an earlier run on the same dataset.")] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps. [default: 200]")] = None,
    seed: Annotated[int, typer.Option(help="Of the choice of held-out cells and of the training.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Change a model by your calls; it is kept only if it is better on held-out ones. Writes report.md and the model."""
    import shlex
    import sys

    from panimbus.cli.console import step_bar
    from panimbus.core.errors import InputError, MissingExtraError
    from panimbus.data.gold import read_all
    from panimbus.infer.output import load_scale
    from panimbus.io import open_fovs
    from panimbus.model.weights import resolve_model

    try:
        from panimbus.train.finetune import finetune
        from panimbus.train.finetune_report import check_out, save, sentence
        from panimbus.train.tune import settings_of
    except ImportError as error:
        raise MissingExtraError("fine-tuning", "train") from error
    if per_marker and not recalibrate:
        raise InputError("--per-marker belongs to recalibration.", fix="pass --recalibrate too")
    how = "markers" if per_marker else "recalibrate" if recalibrate else "weights"
    settings = settings_of(how=how, seed=seed, device=device, **({} if steps is None else {"steps": steps}))
    check_out(out)
    resolve_model(model)  # an unknown model is said before the files are opened
    table = read_all(calls)
    scale = load_scale(normaliser) if normaliser is not None else None
    fovs = open_fovs(
        images if len(images) > 1 else images[0],
        None if not labels else labels if len(labels) > 1 else labels[0],
        mpp=mpp,
        channel_names=channel_names,
    )
    with step_bar() as show:
        found = finetune(fovs, table, model=model, scale=scale, settings=settings, report=show)
    path = save(found, out, command=shlex.join(["panimbus", *sys.argv[1:]]))
    for note in found.notes:
        typer.echo(f"note: {note}", err=True)
    typer.echo(sentence(found))
    typer.echo(f"report:  {out / 'report.md'}" + (f"\nmodel:   {path}" if path is not None else ""))
