"""``panimbus demo``: simulated tissue with a known truth, scored, on one page."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from panimbus.cli import options

if TYPE_CHECKING:
    from anndata import AnnData

    from panimbus.core.fov import Fov
    from panimbus.core.types import Array
    from panimbus.evaluate.metrics import Metrics

SHAPE, MPP, PLATFORM = (700, 700), 0.5, "codex"


def command(
    *,
    out: options.Out = Path("panimbus-demo"),
    model: options.Model = None,
    tta: options.Views = None,
    seed: options.Seed = 0,
) -> None:
    """Simulate tissue, score it, and show every marker beside the truth on one page.

    Writes the files of `panimbus predict` and report.html, which opens in the browser where there
    is a screen. For your own files: `panimbus predict`, then `panimbus report`.
    """
    from panimbus.cli.console import open_page, running
    from panimbus.cli.inputs import command_line, prepare_out
    from panimbus.infer.predict import PredictSettings, predict
    from panimbus.model.weights import resolve_model

    settings = PredictSettings(options.value(tta) or resolve_model(model).card.tta)
    prepare_out(out)
    typer.echo("simulating tissue ...", err=True)
    with running("demo", "simulated tissue", fovs=1) as log:
        fov, truth, dataset = _simulate(out, seed)
        table = predict(fov, model=model, settings=settings, progress=log)
    typer.echo(_save(table, fov, out, {"dataset": dataset, "command": command_line()}, truth))
    typer.echo("the same with separate commands, and for your own files:")
    for line in _commands(out, model):
        typer.echo(f"  {line}")
    log.end(out)
    open_page((out / "report.html").absolute().as_uri())


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


def _commands(out: Path, model: str | None) -> list[str]:
    image, labels = _files(out)
    words = ["panimbus", "predict", image, "--labels", labels, "--out", out / "predicted"]
    predict = [*words, *(() if model is None else ("--model", model))]
    report = ["panimbus", "report", out / "predicted"]
    return [shlex.join(map(str, command)) for command in (predict, report)]


def _save(
    table: AnnData, fov: Fov, out: Path, about: dict[str, str], truth: dict[str, Array]
) -> str:
    """Write the tables and the page; the lines to print."""
    import numpy as np

    from panimbus.core.table import CELL
    from panimbus.evaluate.result_page import Subject, facts, write_result_page
    from panimbus.infer.output import save_run

    save_run(table, out, ("h5ad", "csv"))
    rows = table.obs[CELL].to_numpy() - 1
    calls = np.stack([truth[c][rows] for c in table.var_names], axis=1)
    page = out / "report.html"
    about = {"title": "panimbus on simulated tissue, truth known", **facts(table), **about}
    write_result_page(page, Subject(table, lambda _: fov, calls), about)
    return "\n".join(
        [
            *_comparison(table, calls),
            f"page:     {page}",
            (
                f"tables:   {out / 'cells.h5ad'}, {out / 'cells.csv'}  ({table.n_obs:,} cells,"
                f" {table.n_vars} markers)"
            ),
        ]
    )


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
