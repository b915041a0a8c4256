"""``panimbus inspect``: what was read, what looks wrong, and the cost of ``panimbus predict``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from panimbus.cli import options, region_options

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from rich.console import Console
    from rich.table import Table

    from panimbus.infer.inspection_report import ChannelReport, FovReport, InspectionReport

_SHOWN = 40


def command(  # noqa: PLR0913 (one parameter per option)
    images: options.Images,
    *,
    labels: options.Labels = None,
    pairs: options.Pairs = None,
    channels: options.Channels = None,
    channel_names: options.ChannelNames = None,
    channel_types: options.ChannelTypes = None,
    mpp: options.Mpp = None,
    dark_level: options.DarkLevel = None,
    exclude: region_options.Exclude = None,
    model: options.Model = None,
    tta: options.Views = None,
    min_area: options.MinArea = None,
    max_area: options.MaxArea = None,
    allow_odd_labels: options.AllowOddLabels = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the report as JSON and nothing else.")
    ] = False,
    print_pairs: Annotated[
        bool,
        typer.Option(
            "--print-pairs",
            help=(
                "Print a draft of the CSV file for --pairs, with uncertain pairs marked, and"
                " nothing else."
            ),
        ),
    ] = False,
) -> None:
    """Check images and label images before anything is computed.

    The exit code is 2 if a problem would stop `panimbus predict`.

    Columns of the FOVs: **Y x X** size in pixels; **type** data type of the pixels; **µm/px** "?"
    if the file does not give it; **cells** number of ids in the label image; **Ø µm** diameter of
    a circle with the median cell area; **covered** share of the image covered by cells; **in
    pieces** ids whose pixels are not connected; **small** cells below --min-area; **labels** format
    and data type of the label image; **excluded** share of the image in excluded regions.

    Columns of the channels: **min**, **max**; **p99.9** the normaliser, i.e. the intensity that is
    scaled to 1 (the percentile of the model, over the pixels of all FOVs; empty for a blank
    channel); **not 0** share of pixels above 0; **saturated** share of pixels at the largest
    possible value; and what looks wrong.
    """
    import json

    from panimbus.cli.console import plural, running
    from panimbus.cli.inputs import open_given
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
    selected = options.names_in(channels)
    if print_pairs:
        if not labels:
            raise InputError("--print-pairs needs the label images.", fix="pass --labels")
        from panimbus.io.attach import draft_pairs

        fovs = open_given(
            images, mpp=mpp, channels=selected, channel_names=channel_names, images_only=True
        )
        typer.echo(draft_pairs(fovs, labels), nl=False)
        return
    fovs = open_given(
        images,
        labels,
        pairs=pairs,
        mpp=mpp,
        dark_level=dark_level,
        channels=selected,
        channel_names=channel_names,
        channel_types=channel_types,
        exclude=exclude,
        counterstains=True,
    )
    with running("inspect", plural(len(fovs), "FOV"), quiet=as_json) as log:
        report = inspect_fovs(fovs, channels=selected, model=model, settings=settings, progress=log)
    if as_json:
        typer.echo(json.dumps(report.to_dict(), indent=1, allow_nan=False))
    else:
        _show(report)
    if not report.ok:
        raise typer.Exit(2)


def _show(report: InspectionReport) -> None:
    from rich.console import Console

    from panimbus.core.errors import format_list
    from panimbus.core.excluded import describe_excluded
    from panimbus.core.objects import describe_object_shares

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=150)
    console.print(_fov_table(report.fovs))
    _notes(console, report)
    if odd := describe_object_shares(report.objects):
        console.print(odd, markup=False)
    console.print(_channel_table(report))
    masked = [fov.excluded for fov in report.fovs if fov.excluded is not None]
    if line := describe_excluded(masked, len(report.fovs)):
        console.print(line, markup=False)
    none = "no channel is named like one (DAPI, Hoechst, DNA, histone H3 ...)"
    stains = report.counterstains
    console.print(f"counterstain: {format_list(stains) if stains else none}", markup=False)
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


def _notes(console: Console, report: InspectionReport) -> None:
    fovs_of: dict[str, list[str]] = {}
    for fov in report.fovs:
        for note in fov.notes:
            fovs_of.setdefault(note, []).append(fov.fov_id)
    for note, fovs in fovs_of.items():
        subject = fovs[0] if len(fovs) == 1 else f"{len(fovs)} FOVs"
        console.print(f"note ({subject}): {note}", markup=False, style="dim")


def _table(title: str, columns: Sequence[str], left: Collection[str]) -> Table:
    """An empty table; the columns that are not in ``left`` are right-aligned."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold")
    for name in columns:
        table.add_column(name, justify="left" if name in left else "right", overflow="fold")
    return table


_FOV_COLUMNS = (
    "FOV", "format", "Y x X", "type", "µm/px", "cells", "Ø µm", "covered", "in pieces", "small",
    "labels",
)  # fmt: skip


def _fov_table(fovs: tuple[FovReport, ...]) -> Table:
    more = ("excluded",) if any(fov.excluded is not None for fov in fovs) else ()
    columns = (*_FOV_COLUMNS, *more)
    table = _table(_plural(fovs, "FOV"), columns, {"FOV", "format", "type", "labels"})
    for fov in fovs[:_SHOWN]:
        size = "?" if fov.mpp is None else f"{fov.mpp:.4g}"
        row = [fov.fov_id, fov.format, f"{fov.shape[1]} x {fov.shape[2]}", fov.dtype, size]
        cells = fov.labels
        if cells is None:
            row += ["", "", "", "", "", "none"]
        else:
            diameter = cells.median_diameter_um
            row += [
                f"{cells.cells:,}",
                "" if diameter is None else f"{diameter:.1f}",
                f"{100 * cells.covered:.0f} %",
                f"{cells.in_pieces:,}",
                f"{cells.small:,}",
                f"{cells.format}, {cells.dtype}",
            ]
        share = "" if fov.excluded is None else f"{100 * fov.excluded.share:.1f} %"
        table.add_row(*_escaped([*row, share] if more else row))
    if len(fovs) > _SHOWN:
        table.caption = f"... and {len(fovs) - _SHOWN} more"
    return table


def _channel_table(report: InspectionReport) -> Table:
    title = f"{_plural(report.channels, 'channel')}, all FOVs pooled"
    percentile = f"p{report.percentile:g}"
    columns = ("channel", "type", "min", "max", percentile, "not 0", "saturated", "")
    table = _table(title, columns, {"channel", "type", ""})
    for channel in report.channels:
        row = [
            channel.name,
            channel.dtype,
            _number(channel.min),
            _number(channel.max),
            _number(channel.normaliser),
            f"{100 * channel.nonzero:.1f} %",
            f"{100 * channel.saturated:.2f} %" if channel.saturated else "",
            _remark(channel),
        ]
        style = "yellow" if channel.blank or channel.same_as else None
        table.add_row(*_escaped(row), style="red" if channel.not_finite else style)
    return table


def _remark(channel: ChannelReport) -> str:
    parts = ["blank"] if channel.blank else []
    parts += [f"same as {channel.same_as}"] if channel.same_as else []
    parts += [f"{channel.not_finite:,} NaN or infinite"] if channel.not_finite else []
    parts += ["nearly empty"] if channel.note and not channel.blank else []
    return ", ".join(parts)


def _escaped(row: list[str]) -> list[str]:
    """Names may contain square brackets, which rich reads as markup."""
    from rich.markup import escape

    return [escape(cell) for cell in row]


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value == int(value) and abs(value) < 1e9 else f"{value:.4g}"


def _plural(items: Sequence[object], noun: str) -> str:
    from panimbus.cli.console import plural

    return plural(len(items), noun)


def _last_line(report: InspectionReport) -> str:
    from panimbus.cli.console import duration

    verdict = "ready for `panimbus predict`"
    if report.problems:
        verdict = f"{_plural(report.problems, 'problem')} would stop `panimbus predict`"
    if report.cost is None:
        return verdict
    cost = report.cost
    return (
        f"{verdict}; expected with model {report.model} (tta {cost.tta}, {cost.backend}): about"
        f" {duration(cost.seconds)} and {cost.memory_bytes / 2**30:.1f} GB of memory"
    )
