"""The panel of one cell: what the result says of it, and crops of every marker."""

from __future__ import annotations

import math
from typing import Any

from nicegui import run, ui

from panimbus.viewer.cells import CellFacts, MarkerFacts, cell_facts
from panimbus.viewer.state import Page
from panimbus.viewer.style import CellStyle

_CROP_UM = 40.0


class CellPanel:
    """Shows a cell.

    Parameters
    ----------
    page
    """

    def __init__(self, page: Page) -> None:
        self._page = page
        self._box = ui.column().classes("w-full gap-2 p-2").props('data-test="cell"')
        with self._box:
            ui.label("Click a cell to see its scores.").classes("pn-soft")

    async def show(self, row: int) -> None:
        """Show the cell in a row of the table; -1: none."""
        facts = None if row < 0 else await run.io_bound(cell_facts, self._page.viewer.tables, row)
        self._box.clear()
        with self._box:
            if facts is None:
                ui.label("No cell there.").classes("pn-soft")
                return
            self._head(facts)
            self._table(facts)
            self._crops(facts)

    def _head(self, facts: CellFacts) -> None:
        ui.label(f"Cell {facts.cell_id}").classes("text-lg").props('data-test="cell-title"')
        with ui.grid(columns="auto 1fr").classes("gap-x-3 gap-y-0 text-sm w-full"):
            for name, value in facts.about.items():
                ui.label(name).classes("pn-soft")
                ui.label(value).props(f'data-test="cell-{name}"')

    def _table(self, facts: CellFacts) -> None:
        columns: list[dict[str, Any]] = [
            {"name": "marker", "label": "marker", "field": "marker", "align": "left"},
            *(
                {"name": key, "label": key, "field": key, "align": "right", "sortable": True,
                 "classes": "tabular-nums"}
                for key in ("score", "spread", "evidence", "intensity")
            ),
        ]  # fmt: skip
        table = ui.table(columns=columns, rows=[_row(m) for m in facts.markers], row_key="marker")
        table.classes("w-full pn-table").props(
            'dense flat dark hide-bottom data-test="cell-scores"'
        )
        table.props["pagination"] = {"rowsPerPage": 0}

    def _crops(self, facts: CellFacts) -> None:
        page = self._page
        fov = page.viewer.result.fov(page.fov_id)
        side = min(256, max(24, round(_CROP_UM / (fov.mpp or 0.5))))
        with ui.element("div").classes("pn-crops").props('data-test="crops"'):
            for k, name in enumerate(fov.channels):
                markers = page.viewer.tables.markers
                style = CellStyle("call", markers.index(name)) if name in markers else None
                address = page.viewer.address(
                    "crops", page.fov_id, f"{facts.row}/{k}.png", side=side, s=style
                )
                with ui.element("figure").classes("pn-crop"):
                    picture = ui.element("img").props('loading="lazy" width=96 height=96')
                    picture.props["src"], picture.props["alt"] = address, name
                    ui.label(name).classes("ellipsis").tooltip(name)


def _row(facts: MarkerFacts) -> dict[str, str]:
    def shown(value: float, form: str) -> str:
        return "–" if math.isnan(value) else format(value, form)

    return {
        "marker": f"{facts.marker} +" if facts.positive else facts.marker,
        "score": shown(facts.score, ".2f"),
        "spread": shown(facts.spread, ".2f"),
        "evidence": shown(facts.evidence, "+.1f"),
        "intensity": shown(facts.intensity, ".3g"),
    }
