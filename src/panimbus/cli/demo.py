"""``panimbus demo``: marker positivity on simulated tissue whose truth is known, or a picture of one's own files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from panimbus.demo import Demo


def command(  # noqa: PLR0913 (one parameter an option)
    *,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("panimbus-demo"),
    seed: Annotated[int, typer.Option(help="Of the simulated tissue.")] = 0,
    model: Annotated[str | None, typer.Option(help="Name of a model (see `panimbus models`) or path of a model file.")] = None,
    tta: Annotated[str | None, typer.Option(help="Test-time augmentation: full, auto or none. [default: the model's]")] = None,
    data: Annotated[str | None, typer.Option(help="Make the picture of these images instead of simulated tissue.")] = None,
    labels: Annotated[str | None, typer.Option(help="Label images of --data: a file, or a folder matched by name.")] = None,
    channels: Annotated[str | None, typer.Option(help="Channels of --data, comma-separated; all of them if left away.")] = None,
    mpp: Annotated[float | None, typer.Option(help="Micrometres per pixel of --data, if the files do not say.")] = None,
    fov: Annotated[str | None, typer.Option(help="Which FOV of --data; the first if left away.")] = None,
) -> None:
    """Simulate tissue, predict, and show image, score and truth of every marker; --data makes the picture of real files."""
    import shlex
    import sys

    from panimbus.cli.console import names_in, progress_bar
    from panimbus.core.errors import InputError
    from panimbus.demo import How, of_files, simulated
    from panimbus.infer.predict import PredictSettings
    from panimbus.io import open_fovs
    from panimbus.model.weights import resolve_model

    if data is None and (labels, channels, mpp, fov) != (None, None, None, None):
        raise InputError("--labels, --channels, --mpp and --fov belong to real files.", fix="pass --data too")
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file.", expected="a folder")
    settings = PredictSettings(tta or resolve_model(model).card.tta)
    said = shlex.join(["panimbus", *sys.argv[1:]])
    if data is None:
        typer.echo("simulating tissue ...", err=True)
        with progress_bar() as show:
            demo = simulated(out, How(model, settings, said, show), seed=seed)
    else:
        wanted = names_in(channels)
        fovs = open_fovs(data, labels, mpp=mpp, channels=wanted, counterstains=True)
        with progress_bar() as show:
            demo = of_files(fovs, out, How(model, settings, said, show), name=fov, channels=wanted)
    typer.echo(_summary(demo, out))


def _summary(demo: Demo, out: Path) -> str:
    lines = _marks(demo) if demo.quality is not None else []
    lines += [
        f"picture:  {demo.picture}  (and {demo.sheet.name})",
        f"tables:   {out / 'cells.h5ad'}, {out / 'cells.csv'}  ({demo.table.n_obs:,} cells, {demo.table.n_vars} markers)",
    ]
    if demo.command:
        lines += ["the same by hand, and for your own files:", f"  {demo.command}"]
    return "\n".join(lines)


def _marks(demo: Demo) -> list[str]:
    """F1 of each marker against the truth, the baseline's beside."""
    from panimbus.evaluate.metrics import mean_f1

    quality, baseline = demo.quality or {}, demo.baseline or {}
    width = max(len(name) for name in [*quality, "mean"])
    lines = [f"{'marker':<{width}}   F1    precision  recall  positive cells   F1 of Otsu on mean intensity"]
    for name, mark in quality.items():
        share = f"{mark.positives:,.0f} of {mark.judged:,}"
        lines.append(
            f"{name:<{width}}  {_two(mark.f1)}     {_two(mark.precision)}    {_two(mark.recall)}  {share:>14}   "
            f"{_two(baseline[name].f1)}"
        )
    lines.append(f"{'mean':<{width}}  {_two(mean_f1(quality))}{'':38}{_two(mean_f1(baseline))}")
    return [*lines, ""]


def _two(value: float) -> str:
    return f"{value:5.2f}" if value == value else "    –"  # noqa: PLR0124 (NaN)
