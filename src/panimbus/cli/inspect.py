"""``panimbus inspect``.

What was recognised, what looks wrong, and what ``panimbus predict`` would cost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from panimbus.cli import options

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from panimbus.infer.preflight import ChannelReport, FovReport, Report

_SHOWN = 40


def command(  # noqa: PLR0913 (one parameter an option)
    images: options.Images,
    *,
    labels: options.Labels = None,
    pairs: options.Pairs = None,
    channels: options.Channels = None,
    channel_names: options.ChannelNames = None,
    channel_types: options.ChannelTypes = None,
    mpp: options.Mpp = None,
    dark_level: options.DarkLevel = None,
    model: options.Model = None,
    tta: options.Views = None,
    min_area: options.MinArea = None,
    max_area: options.MaxArea = None,
    allow_odd_labels: options.AllowOddLabels = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")] = False,
    print_pairs: Annotated[
        bool,
        typer.Option(
            "--print-pairs",
            help=(
                "Print a draft of the file for --pairs (CSV), what is unsure marked, and nothing"
                " else."
            ),
        ),
    ] = False,
) -> None:
    """Look at images and label images before anything runs.

    Exit code 2 if something would stop `panimbus predict`.

    Columns of the FOVs: **Y x X** size in pixels; **type** of a pixel; **µm/px** "?" if the file
    does not say it; **cells** ids of the label image; **Ø µm** diameter of the circle with the
    median cell's area; **covered** share of the image that is cell; **in pieces** ids whose pixels
    are not connected; **small** cells below --min-area; **labels** their format and type.

    Columns of the channels: **min**, **max**; **p99.9** the normaliser, the intensity that becomes
    1 (the model's percentile of the pixels of all FOVs; nothing for a blank channel); **not 0**
    share of the pixels; **saturated** share of the pixels at the largest value there can be; then
    what looks wrong.
    """
    import json

    from panimbus.cli.console import RunLog, on_terminal, progress_bar
    from panimbus.cli.inputs import open_given, refuse_labels_among
    from panimbus.core.errors import InputError
    from panimbus.infer.predict import PredictSettings
    from panimbus.infer.preflight import inspect_fovs
    from panimbus.infer.tta import views
    from panimbus.model.weights import resolve_model

    card = resolve_model(model).card
    settings = PredictSettings(
        options.value(tta), min_area=min_area, max_area=max_area, allow_odd_labels=allow_odd_labels
    )
    views(settings.tta_for(card))
    wanted = options.names_in(channels)
    if print_pairs:
        if not labels:
            raise InputError("--print-pairs needs the label images.", fix="pass --labels")
        from panimbus.io.fovs import draft_pairs

        fovs = open_given(images, mpp=mpp, channels=wanted, channel_names=channel_names)
        typer.echo(draft_pairs(fovs, labels), nl=False)
        return
    fovs = open_given(
        images, labels, pairs=pairs, mpp=mpp, dark_level=dark_level, channels=wanted, channel_names=channel_names,
        channel_types=channel_types, counterstains=True,
    )  # fmt: skip
    if any(fov.labels is None for fov in fovs):
        refuse_labels_among(images)
    if on_terminal():
        with progress_bar() as show:
            report = inspect_fovs(
                fovs, channels=wanted, model=model, settings=settings, progress=show
            )
    else:
        log = RunLog("inspect", f"{len(fovs)} FOV{'s' * (len(fovs) != 1)}", quiet=as_json)
        report = inspect_fovs(fovs, channels=wanted, model=model, settings=settings, progress=log)
    if as_json:
        typer.echo(json.dumps(report.to_dict(), indent=1, allow_nan=False))
    else:
        _show(report)
    if not report.ok:
        raise typer.Exit(2)


def _show(report: Report) -> None:
    from rich.console import Console

    from panimbus.core.errors import format_list
    from panimbus.core.objects import describe_object_shares

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=150)
    console.print(_fov_table(report.fovs))
    _notes(console, report)
    if odd := describe_object_shares(report.objects):
        console.print(odd, markup=False)
    console.print(_channel_table(report))
    stains = report.counterstains
    said = (
        format_list(stains)
        if stains
        else "no channel has the name of one (DAPI, Hoechst, DNA, histone H3 ...)"
    )
    console.print(f"counterstain: {said}", markup=False)
    for kind, style, lines in (
        ("warning", "yellow", report.warnings),
        ("problem", "bold red", report.problems),
    ):
        for line in lines[:_SHOWN]:
            console.print(f"{kind}:", style=style, end=" ")
            console.print(line, markup=False)
        if len(lines) > _SHOWN:
            console.print(f"... and {len(lines) - _SHOWN} {kind}s more (see --json)", style=style)
    console.print(_last_line(report), markup=False)


def _notes(console: Console, report: Report) -> None:
    where: dict[str, list[str]] = {}
    for fov in report.fovs:
        for note in fov.notes:
            where.setdefault(note, []).append(fov.fov_id)
    for note, fovs in where.items():
        console.print(
            f"note ({fovs[0] if len(fovs) == 1 else f'{len(fovs)} FOVs'}): {note}",
            markup=False,
            style="dim",
        )


def _fov_table(fovs: tuple[FovReport, ...]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(
        box=box.SIMPLE_HEAD,
        title=f"{len(fovs)} FOV{'s' * (len(fovs) != 1)}",
        title_justify="left",
        title_style="bold",
    )
    for name in (
        "FOV",
        "format",
        "Y x X",
        "type",
        "µm/px",
        "cells",
        "Ø µm",
        "covered",
        "in pieces",
        "small",
        "labels",
    ):
        table.add_column(
            name,
            justify="left" if name in {"FOV", "format", "type", "labels"} else "right",
            overflow="fold",
        )
    for fov in fovs[:_SHOWN]:
        size = "?" if fov.mpp is None else f"{fov.mpp:.4g}"
        row = [fov.fov_id, fov.format, f"{fov.shape[1]} x {fov.shape[2]}", fov.dtype, size]
        cells = fov.labels
        if cells is None:
            row += ["", "", "", "", "", "none"]
        else:
            wide = "" if cells.median_diameter_um is None else f"{cells.median_diameter_um:.1f}"
            row += [
                f"{cells.cells:,}",
                wide,
                f"{100 * cells.covered:.0f} %",
                f"{cells.in_pieces:,}",
                f"{cells.small:,}",
            ]
            row += [f"{cells.format}, {cells.dtype}"]
        table.add_row(*_plain(row))
    if len(fovs) > _SHOWN:
        table.caption = f"... and {len(fovs) - _SHOWN} more"
    return table


def _channel_table(report: Report) -> Table:
    from rich import box
    from rich.table import Table

    title = f"{len(report.channels)} channel{'s' * (len(report.channels) != 1)}, all FOVs pooled"
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold")
    for name in (
        "channel",
        "type",
        "min",
        "max",
        f"p{report.percentile:g}",
        "not 0",
        "saturated",
        "",
    ):
        table.add_column(
            name, justify="left" if name in {"channel", "type", ""} else "right", overflow="fold"
        )
    for channel in report.channels:
        table.add_row(
            *_plain(
                [
                    channel.name,
                    channel.dtype,
                    _number(channel.min),
                    _number(channel.max),
                    _number(channel.normaliser),
                    f"{100 * channel.nonzero:.1f} %",
                    f"{100 * channel.saturated:.2f} %" if channel.saturated else "",
                    _remark(channel),
                ]
            ),
            style=(
                "red"
                if channel.not_finite
                else "yellow"
                if channel.blank or channel.same_as
                else None
            ),
        )
    return table


def _remark(channel: ChannelReport) -> str:
    parts = ["blank"] if channel.blank else []
    parts += [f"same as {channel.same_as}"] if channel.same_as else []
    parts += [f"{channel.not_finite:,} NaN or infinite"] if channel.not_finite else []
    parts += ["nearly empty"] if channel.note and not channel.blank else []
    return ", ".join(parts)


def _plain(row: list[str]) -> list[str]:
    """Names may hold square brackets, which are markup to rich."""
    from rich.markup import escape

    return [escape(cell) for cell in row]


def _number(value: float | None) -> str:
    return (
        ""
        if value is None
        else f"{value:,.0f}"
        if value == int(value) and abs(value) < 1e9
        else f"{value:.4g}"
    )


def _last_line(report: Report) -> str:
    ends = (
        f"{len(report.problems)} problem{'s' * (len(report.problems) != 1)} would stop `panimbus"
        " predict`"
    )
    verdict = ends if report.problems else "ready for `panimbus predict`"
    if report.cost is None:
        return verdict
    from panimbus.cli.console import duration

    cost = report.cost
    return (
        f"{verdict}; expected with model {report.model} (tta {cost.tta}, {cost.backend}): about"
        f" {duration(cost.seconds)} and {cost.memory_bytes / 2**30:.1f} GB of memory"
    )
