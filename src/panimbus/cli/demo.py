"""``panimbus demo``.

Marker positivity on simulated tissue whose truth is known, or a picture of one's own files.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from panimbus.cli import options

if TYPE_CHECKING:
    from panimbus.demo import Demo


def command(  # noqa: PLR0913 (one parameter an option)
    images: Annotated[
        list[str] | None,
        typer.Argument(
            parser=options.word,
            metavar="[IMAGES]",
            help="Make the picture of these images instead of simulated tissue.",
        ),
    ] = None,
    *,
    labels: options.Labels = None,
    pairs: options.Pairs = None,
    out: options.Out = Path("panimbus-demo"),
    channels: options.Channels = None,
    channel_names: options.ChannelNames = None,
    mpp: options.Mpp = None,
    fov: Annotated[
        str | None, typer.Option(metavar="NAME", help="Which FOV of IMAGES. [default: the first]")
    ] = None,
    model: options.Model = None,
    tta: options.Views = None,
    seed: options.Seed = 0,
) -> None:
    """Simulate tissue, predict, and show image, score and truth of every marker.

    With IMAGES the picture of your files.
    """
    from panimbus.cli.console import running
    from panimbus.cli.inputs import command_line, open_given, prepare_out, refuse_labels_among
    from panimbus.core.errors import InputError
    from panimbus.demo import DemoOptions, of_files, simulated
    from panimbus.infer.predict import PredictSettings
    from panimbus.model.weights import resolve_model

    if not images and any((labels, pairs, channels, channel_names, mpp, fov)):
        raise InputError(
            "--labels, --pairs, --channels, --channel-names, --mpp and --fov belong to real files.",
            fix="name the images, too: panimbus demo IMAGES --labels LABELS",
        )
    settings, line = (
        PredictSettings(options.value(tta) or resolve_model(model).card.tta),
        command_line(),
    )
    prepare_out(out)
    if not images:
        typer.echo("simulating tissue ...", err=True)
        with running("demo", "simulated tissue", fovs=1) as log:
            demo = simulated(out, DemoOptions(model, settings, line, log), seed=seed)
    else:
        wanted = options.names_in(channels)
        fovs = open_given(
            images,
            labels,
            pairs=pairs,
            mpp=mpp,
            channels=wanted,
            channel_names=channel_names,
            counterstains=True,
        )
        if any(f.labels is None for f in fovs):
            refuse_labels_among(images)
        with running("demo", f"one of {len(fovs)} FOVs", fovs=1) as log:
            demo = of_files(
                fovs, out, DemoOptions(model, settings, line, log), name=fov, channels=wanted
            )
    typer.echo(_summary(demo, out))
    log.end(out)


def _summary(demo: Demo, out: Path) -> str:
    lines = _marks(demo) if demo.quality is not None else []
    lines += [
        f"picture:  {demo.picture}  (and {demo.sheet.name})",
        (
            f"tables:   {out / 'cells.h5ad'}, {out / 'cells.csv'}  ({demo.table.n_obs:,} cells,"
            f" {demo.table.n_vars} markers)"
        ),
    ]
    if demo.command:
        lines += ["the same by hand, and for your own files:", f"  {demo.command}"]
    return "\n".join(lines)


def _marks(demo: Demo) -> list[str]:
    """F1 of each marker against the truth, the baseline's beside."""
    from panimbus.evaluate.metrics import mean_f1

    quality, baseline = demo.quality or {}, demo.baseline or {}
    width = max(len(name) for name in [*quality, "mean"])
    lines = [
        (
            f"{'marker':<{width}}   F1    precision  recall  positive cells   F1 of Otsu on mean"
            " intensity"
        )
    ]
    for name, mark in quality.items():
        share = f"{mark.positives:,.0f} of {mark.judged:,}"
        lines.append(
            f"{name:<{width}}  {_two(mark.f1)}     {_two(mark.precision)}    {_two(mark.recall)} "
            f" {share:>14}   {_two(baseline[name].f1)}"
        )
    lines.append(f"{'mean':<{width}}  {_two(mean_f1(quality))}{'':38}{_two(mean_f1(baseline))}")
    return [*lines, ""]


def _two(value: float) -> str:
    return f"{value:5.2f}" if value == value else "    –"  # noqa: PLR0124 (NaN)
