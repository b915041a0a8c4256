"""Types: heatmap of types or metaclusters, edits with undo, composition of the FOVs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nicegui import run, ui
from nicegui.events import EChartPointClickEventArguments

from panimbus.core.errors import PanimbusError
from panimbus.io.edits import describe_edit
from panimbus.phenotype.corrections import type_agreement
from panimbus.phenotype.session import EditSession
from panimbus.phenotype.summary import Summary
from panimbus.viewer.state import Page
from panimbus.viewer.types import EDITS, Heatmap, TypeEdits, heatmap_of

TITLE = "Types"
_MEAN = ["#14171c", "#3b528b", "#21918c", "#5ec962", "#fde725"]  # viridis on the page's dark
_Z = ["#4a90e2", "#20252d", "#ffb000"]  # blue and orange are told apart by all
_TEXT, _LINE = "#e8eaed", "#8a94a0"


def types_page(page: Page) -> None:
    """Build the page."""
    edits = page.viewer.types
    if edits is None:
        with ui.column().classes("p-6 gap-2"):
            ui.label("There are no cell types beside this result.").props('data-test="message"')
            ui.label(
                f"panimbus phenotype run {page.viewer.result.folder}/cells.h5ad"
                f" --out {page.viewer.result.folder}/types"
            ).classes("font-mono text-sm")
        return
    _TypesPage(page, edits).build()


class _TypesPage:
    """The page of one reader."""

    def __init__(self, page: Page, edits: TypeEdits) -> None:
        self.page, self.edits = page, edits
        self.metaclusters = True
        self.z_scores, self.limit = True, 2.0
        self.selected: list[Any] = []
        self.seen = 0
        self._is_busy = False
        self.map: Heatmap | None = None
        self.may_edit = bool(page.annotator) and not page.viewer.read_only

    # -- building ----------------------------------------------------------------------------------

    def build(self) -> None:
        with ui.row().classes("w-full h-full no-wrap gap-0"):
            with ui.column().classes("pn-panel border-r h-full w-80 shrink-0 overflow-auto p-3"):
                self._settings()
                ui.separator()
                self._tools()
                ui.separator()
                self._history = ui.column().classes("w-full gap-1 text-sm")
            with ui.column().classes("grow h-full overflow-auto p-4 gap-4 min-w-0"):
                self._charts = ui.column().classes("w-full gap-4")
        ui.timer(0, self._first, once=True)

    def _settings(self) -> None:
        rows = ui.toggle(
            {True: "Metaclusters", False: "Types"}, value=True, on_change=self._group_by
        )
        rows.props('no-caps dense padding="2px 10px" data-test="rows"')
        with ui.row().classes("w-full items-center no-wrap gap-3"):
            z = ui.switch("z-scores", value=True, on_change=self._scale)
            z.props('dense data-test="z"').classes("whitespace-nowrap")
            ui.label("limit").classes("text-sm pn-soft")
            limit = ui.slider(min=0.5, max=4, step=0.5, value=2, on_change=self._set_limit)
            limit.props('dense dark label data-test="limit" aria-label="Limit of the z-scores"')

    def _tools(self) -> None:
        self._choice = ui.select(
            {}, multiple=True, label="Selected rows", on_change=lambda e: self._select(e.value)
        )
        self._choice.classes("w-full").props(
            'dense dark outlined use-chips options-dense data-test="selected"'
        )
        self._name = ui.input("Name of the type", autocomplete=[])
        self._name.classes("w-full").props('dense dark outlined data-test="type-name"')
        with ui.row().classes("w-full gap-2"):
            self._merge = self._button("Merge", "merge", self._on_merge)
            self._rename = self._button("Name", "rename", self._on_name)
            self._rename.tooltip("Give the selected metaclusters this type, or rename the type")
        with ui.row().classes("w-full no-wrap items-center gap-2"):
            markers = list(self.page.viewer.tables.markers)
            self._marker = ui.select(markers, value=markers[0], label="Marker")
            self._marker.classes("grow min-w-0").props(
                'dense dark outlined options-dense data-test="split-marker"'
            )
            self._split = self._button("Split", "split", self._on_split)
            self._split.tooltip("Cells positive for the marker become a metacluster of their own")
        with ui.row().classes("w-full no-wrap items-center gap-2"):
            self._cell = ui.input("Cell of the FOV")
            self._cell.classes("grow min-w-0").props('dense dark outlined data-test="cell"')
            self._correct = self._button("Correct", "correct", self._on_correct)
            self._correct.tooltip("Give this cell of the FOV chosen above the type named here")
        with ui.row().classes("w-full gap-2"):
            self._undo = self._button("Undo", "undo", self._on_undo)
            self._redo = self._button("Redo", "redo", self._on_redo)
            self._write = self._button("Write types", "write", self._on_write)
            self._write.tooltip("Write types.h5ad, the tables and the report after these edits")
        self._state = ui.label().classes("text-sm pn-soft").props('data-test="state"')

    def _button(self, text: str, key: str, act: Callable[[], Any]) -> ui.button:
        button = ui.button(text, on_click=act)
        button.props(f'no-caps dense outline data-test="{key}"').classes("px-2")
        return button

    # -- what a reader does ------------------------------------------------------------------------

    async def _first(self) -> None:
        await self._draw()
        ui.timer(2.0, self._follow)

    async def _follow(self) -> None:
        """Show what others edited, and types that were written meanwhile."""
        if self._is_busy:  # its own drawing follows
            return
        try:
            changed = await run.io_bound(self.edits.follow)
        except PanimbusError as error:
            self._state.set_text(str(error))
            return
        if changed or self.page.viewer.tables.version != self._shown:
            await self._draw()

    async def _group_by(self, event: Any) -> None:
        self.metaclusters, self.selected = bool(event.value), []
        await self._draw()

    async def _scale(self, event: Any) -> None:
        self.z_scores = bool(event.value)
        await self._draw()

    async def _set_limit(self, event: Any) -> None:
        self.limit = float(event.value)
        await self._draw()

    def _click(self, event: EChartPointClickEventArguments) -> None:
        if self.map is None:
            return
        position = event.value[1] if isinstance(event.value, list) else event.data_index
        key = self.map.keys[int(position)]
        chosen = [k for k in self.selected if k != key]
        self._choice.set_value(chosen if key in self.selected else [*self.selected, key])

    def _select(self, keys: list[Any]) -> None:
        self.selected = list(keys)
        if self.map is not None:
            self._chart.options["yAxis"][1]["data"] = _marked(self.map, self.selected)
            self._chart.update()
        self._show_tools()

    async def _on_merge(self) -> None:
        numbers, name = [int(k) for k in self.selected], self._name.value.strip() or None
        await self._do(lambda s: s.merge(numbers, name=name, by=self.page.annotator))

    async def _on_name(self) -> None:
        keys, name, by = list(self.selected), self._name.value.strip(), self.page.annotator

        def act(session: EditSession) -> None:
            for key in keys:
                if self.metaclusters:
                    session.reassign(int(key), name, by=by)
                else:
                    session.rename(str(key), name, by=by)

        await self._do(act)

    async def _on_split(self) -> None:
        number, marker = int(self.selected[0]), str(self._marker.value)
        name = self._name.value.strip() or None
        await self._do(lambda s: s.split(number, marker=marker, name=name, by=self.page.annotator))

    async def _on_correct(self) -> None:
        cell, name = f"{self.page.fov_id}:{self._cell.value.strip()}", self._name.value.strip()
        await self._do(lambda s: s.correct([cell], name, by=self.page.annotator))

    async def _on_undo(self) -> None:
        await self._do(lambda s: s.undo(seen=self.seen, by=self.page.annotator))

    async def _on_redo(self) -> None:
        await self._do(lambda s: s.redo(seen=self.seen, by=self.page.annotator))

    async def _on_write(self) -> None:
        await self._do(None)

    async def _do(self, act: Callable[[EditSession], None] | None) -> None:
        """Edit, or (None) write, beside the event loop; an error is shown."""
        notice = ui.notification("Writing the types ...", spinner=True, timeout=None)
        self._is_busy = True
        try:
            if act is None:
                await run.io_bound(self.edits.write)
            else:
                await run.io_bound(self.edits.change, act)
        except PanimbusError as error:
            ui.notify(str(error), type="negative", multi_line=True, timeout=0, close_button=True)
        else:
            self.selected = []
        finally:
            notice.dismiss()
        await self._draw()
        self._is_busy = False

    # -- showing -----------------------------------------------------------------------------------

    async def _draw(self) -> None:
        try:
            summary = await run.io_bound(self.edits.summarise)
        except PanimbusError as error:
            self._state.set_text(str(error))
            return
        if summary is None:  # the server is being stopped
            return
        self._shown = self.page.viewer.tables.version
        markers = list(self.page.viewer.tables.markers)
        self.map = heatmap_of(
            summary, markers, metaclusters=self.metaclusters, z_scores=self.z_scores
        )
        self.selected = [k for k in self.selected if k in self.map.keys]
        self._charts.clear()
        with self._charts:
            limits = (-self.limit, self.limit) if self.z_scores else (0.0, 1.0)
            options = heatmap_options(self.map, limits, self.selected)
            self._chart = ui.echart(options, on_point_click=self._click).classes("w-full")
            self._chart.style(f"height: {174 + 22 * len(self.map.keys)}px")
            self._chart.props('data-test="heatmap"')
            ui.label("Composition of the FOVs").classes("text-base font-bold")
            composition = ui.echart(composition_options(summary)).classes("w-full")
            composition.style(f"height: {110 + 22 * len(summary.composition)}px")
            composition.props('data-test="composition"')
        self._choice.set_options(
            dict(zip(self.map.keys, self.map.labels, strict=True)), value=list(self.selected)
        )
        self._name.set_autocomplete([str(t) for t in summary.types["cell_type"]])
        self._show_history()
        self._show_tools()

    def _show_tools(self) -> None:
        session, rows = self.edits.session, len(self.selected)
        able = self.may_edit
        self._merge.set_enabled(able and self.metaclusters and rows > 1)
        self._rename.set_enabled(able and rows > 0)
        self._split.set_enabled(able and self.metaclusters and rows == 1)
        self._correct.set_enabled(able)
        self._undo.set_enabled(able and session.can_undo)
        self._redo.set_enabled(able and session.can_redo)
        self._write.set_enabled(able and not self.edits.is_written)
        if self.page.viewer.read_only:
            text = "Read only: types cannot be edited here."
        elif not self.page.annotator:
            text = "Give your name (above, at the right) to edit."
        elif self.edits.is_written:
            text = "The types are written."
        else:
            text = f"Edits are kept in {EDITS}; the tables are not written yet."
        self._state.set_text(text)

    def _show_history(self) -> None:
        session = self.edits.session
        self.seen = len(session.edits)
        standing = [session.edits[i] for i in session.active]
        self._history.clear()
        with self._history.props('data-test="history"'):
            ui.label(f"Edits: {len(standing)}").classes("font-bold")
            for edit in standing[:-16:-1]:
                ui.label(describe_edit(edit)).classes("pn-soft text-xs")
            agreement = type_agreement(session.corrections())
            if agreement.cells:
                ui.label(agreement.sentence()).classes("text-xs").props('data-test="agreement"')


def _marked(heatmap: Heatmap, selected: list[Any]) -> list[str]:
    """Labels of the rows, selected ones with a sign."""
    pairs = zip(heatmap.keys, heatmap.labels, strict=True)
    return [f"▶ {label}" if key in selected else label for key, label in pairs]


def heatmap_options(
    heatmap: Heatmap, limits: tuple[float, float], selected: list[Any]
) -> dict[str, Any]:
    """Dendrogram, matrix and numbers of cells as a chart of ECharts."""
    rows, text = len(heatmap.keys), {"color": _TEXT, "interval": 0, "fontSize": 11}
    top, bottom = 80, 84
    cells = [
        [x, y, round(float(heatmap.values[y, x]), 3)]
        for y in range(rows)
        for x in range(len(heatmap.markers))
    ]
    sizes = [
        {"value": n, "itemStyle": {"color": c, "borderColor": _LINE, "borderWidth": 1}}
        for n, c in zip(heatmap.sizes, heatmap.colours, strict=True)
    ]
    tree = [["-", "-"] if point is None else list(point) for point in heatmap.tree]
    labels = _marked(heatmap, selected)
    hidden = {"show": False}
    return {
        "animation": False,
        "tooltip": {"position": "top"},
        "grid": [
            {"left": 8, "width": 70, "top": top, "bottom": bottom},
            {"left": 280, "right": 190, "top": top, "bottom": bottom},
            {"width": 110, "right": 70, "top": top, "bottom": bottom},
        ],
        "xAxis": [
            {"gridIndex": 0, "type": "value", "inverse": True, **hidden},
            {
                "gridIndex": 1, "type": "category", "data": list(heatmap.markers),
                "position": "top", "axisLabel": {**text, "rotate": 60},
            },
            {"gridIndex": 2, "type": "value", **hidden},
        ],
        "yAxis": [
            {
                "gridIndex": 0, "type": "value", "min": -0.5, "max": rows - 0.5,
                "inverse": True, **hidden,
            },
            {
                "gridIndex": 1, "type": "category", "data": labels, "inverse": True,
                "axisLabel": {**text, "width": 190, "overflow": "truncate"},
            },
            {"gridIndex": 2, "type": "category", "data": labels, "inverse": True, **hidden},
        ],
        "visualMap": {
            "min": limits[0], "max": limits[1], "seriesIndex": 1, "orient": "horizontal",
            "left": 280, "bottom": 8, "calculable": True, "precision": 1,
            "inRange": {"color": _Z if limits[0] < 0 else _MEAN},
            "text": ["", "z-score" if limits[0] < 0 else "mean score"],
            "textStyle": {"color": _TEXT},
        },
        "series": [
            {
                "type": "line", "xAxisIndex": 0, "yAxisIndex": 0, "data": tree, "silent": True,
                "symbol": "none", "lineStyle": {"color": _LINE, "width": 1},
            },
            {
                "type": "heatmap", "xAxisIndex": 1, "yAxisIndex": 1, "data": cells,
                "itemStyle": {"borderColor": "#14171c", "borderWidth": 1},
            },
            {
                "type": "bar", "xAxisIndex": 2, "yAxisIndex": 2, "data": sizes,
                "barWidth": "70%", "label": {"show": True, "position": "right", "color": _TEXT},
            },
        ],
    }  # fmt: skip


def composition_options(summary: Summary) -> dict[str, Any]:
    """Share of each type in each FOV as a chart of ECharts."""
    frame = 100 * summary.composition
    colours = {t: "#%02x%02x%02x" % tuple(c) for t, c in summary.colours.items()}  # noqa: UP031
    series = [
        {
            "name": str(name), "type": "bar", "stack": "types", "barWidth": "75%",
            "data": [round(float(v), 2) for v in frame[name]],
            "itemStyle": {
                "color": colours.get(str(name), _LINE), "borderColor": _LINE, "borderWidth": 0.5
            },
        }
        for name in frame.columns
    ]  # fmt: skip
    return {
        "animation": False,
        "tooltip": {"trigger": "axis", "axisPointer": {"type": "shadow"}, "confine": True},
        "legend": {"type": "scroll", "top": 0, "textStyle": {"color": _TEXT}},
        "grid": {"left": 140, "right": 30, "top": 36, "bottom": 44},
        "xAxis": {
            "type": "value", "max": 100, "name": "% of the FOV's cells",
            "nameLocation": "middle", "nameGap": 26, "axisLabel": {"color": _TEXT},
            "nameTextStyle": {"color": _TEXT},
        },
        "yAxis": {
            "type": "category", "data": [str(f) for f in frame.index], "inverse": True,
            "axisLabel": {"color": _TEXT, "width": 120, "overflow": "truncate"},
        },
        "series": series,
    }  # fmt: skip
