"""``panimbus demo``: from simulated tissue with a known truth, or own files, to one picture."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from panimbus.cli import options

if TYPE_CHECKING:
    from anndata import AnnData

    from panimbus.core.fov import Fov
    from panimbus.core.scale import ChannelScale
    from panimbus.core.types import Array
    from panimbus.evaluate.metrics import Metrics
    from panimbus.model.card import ModelCard

SHAPE, MPP, PLATFORM = (700, 700), 0.5, "codex"


def command(  # noqa: PLR0913 (one parameter per option)
    images: Annotated[
        list[str] | None,
        typer.Argument(
            parser=options.word,
            metavar="[IMAGES]",
            help="Images to show instead of simulated tissue.",
        ),
    ] = None,
    *,
    labels: options.Labels = None,
    pairs: options.Pairs = None,
    out: options.Out = Path("panimbus-demo"),
    channels: options.Channels = None,
    channel_names: options.ChannelNames = None,
    channel_types: options.ChannelTypes = None,
    mpp: options.Mpp = None,
    dark_level: options.DarkLevel = None,
    fov: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The FOV of IMAGES to show. [default: the first]"),
    ] = None,
    normaliser: options.Normaliser = None,
    model: options.Model = None,
    tta: options.Views = None,
    seed: options.Seed = 0,
) -> None:
    """Simulate tissue, score it, and show the image, the scores and the truth of every marker.

    With IMAGES, show one FOV of your own files with the scores that `panimbus predict` gives it.
    The normaliser is fitted to all FOVs.
    """
    from panimbus.cli.console import plural, running
    from panimbus.cli.inputs import command_line, open_given, prepare_out
    from panimbus.core.errors import InputError
    from panimbus.infer.output import read_normaliser
    from panimbus.infer.predict import PredictSettings, predict
    from panimbus.model.weights import resolve_model

    own = {
        "--labels": labels,
        "--pairs": pairs,
        "--channels": channels,
        "--channel-names": channel_names,
        "--channel-types": channel_types,
        "--mpp": mpp,
        "--dark-level": dark_level,
        "--fov": fov,
        "--normaliser": normaliser,
    }
    if not images and any(own.values()):
        raise InputError(
            f"{', '.join(own)} need images.",
            got=", ".join(option for option, value in own.items() if value),
            fix="pass the images too: panimbus demo IMAGES --labels LABELS",
        )
    card = resolve_model(model).card
    settings = PredictSettings(options.value(tta) or card.tta)
    scale = read_normaliser(normaliser) if normaliser is not None else None
    prepare_out(out)
    selected = options.names_in(channels)
    if images:
        fovs = open_given(
            images,
            labels,
            pairs=pairs,
            mpp=mpp,
            dark_level=dark_level,
            channels=selected,
            channel_names=channel_names,
            channel_types=channel_types,
            counterstains=True,
        )
        about = f"one of {plural(len(fovs), 'FOV')}"
    else:
        typer.echo("simulating tissue ...", err=True)
        about = "simulated tissue"
    truth = None
    with running("demo", about, fovs=1) as log:
        if images:
            chosen = _select(fovs, fov)
            title = f"panimbus on {chosen.fov_id}"
            dataset = str(chosen.source.get("image", chosen.fov_id))
            scale = scale or _fit(chosen, fovs, selected, card)
        else:
            title = "panimbus on simulated tissue, truth known"
            chosen, truth, dataset = _simulate(out, seed)
        table = predict(
            chosen,
            model=model,
            channels=selected,
            scale=scale,
            settings=settings,
            progress=log,
        )
    head = {"title": title, "dataset": dataset, **_facts(table, chosen), "command": command_line()}
    typer.echo(_save(table, chosen, out, head, truth))
    if not images:
        typer.echo("the same with separate commands, and for your own files:")
        typer.echo(f"  {_predict_command(out, model)}")
    log.end(out)


def _select(fovs: list[Fov], name: str | None) -> Fov:
    from panimbus.core.errors import InputError

    chosen = next((f for f in fovs if name is None or f.fov_id == name), None)
    if chosen is None:
        raise InputError(f"There is no FOV {name!r}.", available=[f.fov_id for f in fovs])
    return chosen


def _fit(
    chosen: Fov, fovs: list[Fov], selected: list[str] | None, card: ModelCard
) -> ChannelScale | None:
    """Fit the normaliser to all FOVs that have the channels; None if there is only one."""
    from panimbus.core.counterstain import reference_channels
    from panimbus.core.normaliser import fit_normaliser

    channels = selected or list(chosen.channels)
    alike = [f for f in fovs if f.mpp is not None and set(channels) <= set(f.channels)]
    if len(alike) < 2:
        return None  # `predict` fits it, and reports what is wrong with the FOV
    reference = reference_channels(channels, alike, card.stats)
    return fit_normaliser(alike, channels, card, reference=reference)


def _simulate(out: Path, seed: int) -> tuple[Fov, dict[str, Array], str]:
    """Write simulated tissue and open it: the FOV, marker -> truth of cells 1, 2, ..., a title."""
    from panimbus.io import open_fovs, write_labels, write_ome_tiff
    from panimbus.simulate import simulate_tissue

    tissue = simulate_tissue(SHAPE, MPP, seed=seed, platform=PLATFORM)
    out.mkdir(parents=True, exist_ok=True)
    image, labels = _files(out)
    write_ome_tiff(image, tissue.image, tissue.channels, tissue.mpp)
    write_labels(labels, tissue.labels)
    (fov,) = open_fovs(image, labels)
    truth = {name: tissue.truth[:, k] for k, name in enumerate(tissue.channels)}
    width = tissue.image.shape[2] * MPP
    return fov, truth, f"simulated {PLATFORM.upper()} tissue, {width:.0f} µm wide, seed {seed}"


def _files(out: Path) -> tuple[Path, Path]:
    return out / "tissue.ome.tiff", out / "tissue_labels.tiff"


def _predict_command(out: Path, model: str | None) -> str:
    image, labels = _files(out)
    words = ["panimbus", "predict", image, "--labels", labels, "--out", out / "predicted"]
    return shlex.join(map(str, [*words, *(() if model is None else ("--model", model))]))


def _facts(table: AnnData, fov: Fov) -> dict[str, str]:
    """Size of the FOV, model and date, for the head of the picture."""
    from panimbus.core.table import PROVENANCE

    run = table.uns[PROVENANCE]
    height, width = fov.shape_yx
    return {
        "FOV": (
            f"{fov.fov_id}: {table.n_obs:,} cells, {height} x {width} pixels of {fov.mpp:g} µm"
        ),
        "model": (
            f"{run['model']} (version {run['model_version']}, {str(run['model_sha256'])[:10]}),"
            f" panimbus {run['version']}"
        ),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def _save(
    table: AnnData, fov: Fov, out: Path, head: dict[str, str], truth: dict[str, Array] | None
) -> str:
    """Write the tables and the picture; the lines to print."""
    import numpy as np

    from panimbus.core.table import CELL
    from panimbus.evaluate.page import write_picture
    from panimbus.evaluate.picture import Subject
    from panimbus.infer.output import save_run

    save_run(table, out, ("h5ad", "csv"))
    calls, lines = None, []
    if truth is not None:
        rows = table.obs[CELL].to_numpy() - 1
        calls = np.stack([truth[c][rows] for c in table.var_names], axis=1)
        lines = _comparison(table, calls)
    picture, sheet = write_picture(Subject.from_table(table, fov, calls), out, head)
    lines += [
        f"picture:  {picture}  (and {sheet.name})",
        (
            f"tables:   {out / 'cells.h5ad'}, {out / 'cells.csv'}  ({table.n_obs:,} cells,"
            f" {table.n_vars} markers)"
        ),
    ]
    return "\n".join(lines)


def _comparison(table: AnnData, truth: Array) -> list[str]:
    """F1 per marker, of the scores and of Otsu's threshold on the mean intensity."""
    import numpy as np

    from panimbus.core.stats import otsu_positive
    from panimbus.core.table import MEAN, PROVENANCE
    from panimbus.evaluate.metrics import mean_f1, metrics_by_marker

    markers = list(table.var_names)
    threshold = float(table.uns[PROVENANCE]["threshold"])
    metrics: dict[str, Metrics] = metrics_by_marker(
        np.asarray(table.X), truth, markers, threshold=threshold
    )
    otsu = np.stack([otsu_positive(v) for v in np.asarray(table.layers[MEAN]).T], axis=1)
    baseline = metrics_by_marker(otsu, truth, markers)
    width = max(len(name) for name in [*markers, "mean"])
    lines = [
        (
            f"{'marker':<{width}}   F1    precision  recall  positive cells   F1 of Otsu on mean"
            " intensity"
        )
    ]
    for name, m in metrics.items():
        share = f"{m.positives:,.0f} of {m.judged:,}"
        lines.append(
            f"{name:<{width}}  {_two(m.f1)}     {_two(m.precision)}    {_two(m.recall)} "
            f" {share:>14}   {_two(baseline[name].f1)}"
        )
    lines.append(f"{'mean':<{width}}  {_two(mean_f1(metrics))}{'':38}{_two(mean_f1(baseline))}")
    return [*lines, ""]


def _two(value: float) -> str:
    return f"{value:5.2f}" if value == value else "    –"  # noqa: PLR0124 (NaN)
