"""Annotations of a result as files to download: tables, and objects for QuPath."""

from __future__ import annotations

import io
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from nicegui import run, ui

from panimbus.annotations.agreement import consensus_annotations
from panimbus.annotations.log import AnnotationLog
from panimbus.annotations.qupath import export_qupath
from panimbus.annotations.table import CALL, CELL, CHANNEL, FOV
from panimbus.core.errors import PanimbusError
from panimbus.viewer.result import Result
from panimbus.viewer.state import Page

if TYPE_CHECKING:
    import pandas as pd


def export_buttons(page: Page, log: AnnotationLog) -> None:
    """Buttons that download all annotations of a result."""
    name = page.viewer.result.name

    def table() -> None:
        _download(log.table(), f"{name}_annotations.csv")

    def consensus() -> None:
        rows = log.table()
        _download(consensus_annotations(rows) if len(rows) else rows, f"{name}_consensus.csv")

    async def qupath() -> None:
        rows = log.table()
        if not len(rows):
            ui.notify("There are no annotations yet.", position="top")
            return
        try:
            data = await run.io_bound(qupath_archive, rows, page.viewer.result) or b""
        except PanimbusError as error:
            ui.notify(str(error), type="negative", position="top", multi_line=True)
            return
        ui.download.content(data, f"{name}_qupath.zip", "application/zip")

    ui.label("Export, all markers").classes("text-sm font-bold")
    with ui.column().classes("gap-1 w-full"):
        for text, act, key in (
            ("Annotations (CSV)", table, "export-table"),
            ("Consensus (CSV)", consensus, "export-consensus"),
            ("Consensus for QuPath (GeoJSON)", qupath, "export-qupath"),
        ):
            button = ui.button(text, on_click=act).classes("w-full")
            button.props(f'no-caps dense flat align=left icon=download data-test="{key}"')


def qupath_archive(annotations: pd.DataFrame, result: Result) -> bytes:
    """The consensus as a ZIP archive with one GeoJSON file per FOV and channel."""
    rows = consensus_annotations(annotations)[[FOV, CELL, CHANNEL, CALL]]
    buffer = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder:
        fovs = [result.fov(name) for name in dict.fromkeys(rows[FOV])]
        files = export_qupath(rows, fovs, folder)
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in files:
                archive.write(file, Path(file).name)
    return buffer.getvalue()


def _download(table: pd.DataFrame, name: str) -> None:
    if not len(table):
        ui.notify("There are no annotations yet.", position="top")
        return
    text = io.StringIO()
    table.to_csv(text, index=False)
    ui.download.content(text.getvalue(), name, "text/csv")
