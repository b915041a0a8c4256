"""Recalibration on the review page: refit the markers to the answers so far, and take it back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nicegui import run, ui

from panimbus.annotations.log import AnnotationLog
from panimbus.core.errors import PanimbusError
from panimbus.core.table import recalibrated_markers
from panimbus.finetune import recalibrate as recalibration
from panimbus.finetune.recalibrate import Recalibrated
from panimbus.viewer.result import Result
from panimbus.viewer.state import Page

if TYPE_CHECKING:
    from collections.abc import Callable


def recalibrate_result(result: Result, log: AnnotationLog) -> Recalibrated:
    """Refit the markers of a result to its log of annotations; the result is read again.

    Raises
    ------
    InputError
        Before anything is written, on answers that decide nothing.
    """
    recalibrated = recalibration.recalibrate(result.folder, log.table(), types=result.types_made)
    result.reload()
    return recalibrated


def take_back_marker(result: Result, marker: str) -> None:
    """Give a marker the model's own scores again; the result is read again."""
    recalibration.take_back(result.folder, [marker], types=result.types_made)
    result.reload()


def outcome_of(recalibrated: Recalibrated, marker: str) -> str:
    """What became of a marker, in a sentence or two."""
    rows = recalibrated.markers.loc[recalibrated.markers["marker"] == marker]
    if not len(rows):
        return f"{marker} has no answers that decide; other markers were recalibrated."
    row = rows.iloc[0]
    change = (
        f"F1 on held-out answers {row['f1_before']:.2f} before, {row['f1_after']:.2f} after (95 %"
        f" interval of the change {row['f1_gain_low']:+.2f} to {row['f1_gain_high']:+.2f})."
    )
    if row["kept"] == "old":
        return f"{marker} keeps its scores: the new ones are worse. {change}"
    return f"{change} The calls of {int(row['changed']):,} cells changed."


class RecalibrationPanel:
    """Button, outcome, and the way back.

    Parameters
    ----------
    page
    marker
    log
    on_change
        Called after the tables were written.
    """

    def __init__(
        self, page: Page, marker: str, log: AnnotationLog, on_change: Callable[[], None]
    ) -> None:
        self._page, self._marker, self._log, self._on_change = page, marker, log, on_change

    def build(self) -> None:
        """Draw the panel."""
        ui.label("Recalibrate").classes("text-sm font-bold")
        self._state = ui.label().classes("text-sm").props('data-test="recalibrated"')
        with ui.row().classes("w-full gap-2"):
            self._run = ui.button("Recalibrate", on_click=self._recalibrate)
            self._run.props('no-caps dense outline data-test="recalibrate"')
            self._run.tooltip("Refit all markers to their answers; nothing is scored again")
            self._back = ui.button("Take back", on_click=self._take_back)
            self._back.props('no-caps dense flat data-test="take-back"')
            self._back.tooltip(f"Give {self._marker} the model's own scores again")
        self.show()

    def show(self, text: str = "") -> None:
        """Show what can be done, and an outcome."""
        viewer = self._page.viewer
        answers = {(a.fov, a.cell_id) for a in self._log.answers() if a.channel == self._marker}
        is_new = self._marker in recalibrated_markers(viewer.tables.cells)
        usual = "Scores are recalibrated." if is_new else "Scores are the model's own."
        self._state.set_text(text or f"{usual} {len(answers)} cells of {self._marker} answered.")
        self._run.set_enabled(bool(answers) and not viewer.read_only)
        self._back.set_enabled(is_new and not viewer.read_only)

    async def _recalibrate(self) -> None:
        result = await self._change(recalibrate_result, self._log)
        if isinstance(result, Recalibrated):
            self.show(outcome_of(result, self._marker))

    async def _take_back(self) -> None:
        await self._change(take_back_marker, self._marker)
        self.show()

    async def _change(self, act: Callable[..., object], *given: object) -> object:
        """Change the result beside the event loop; an error is shown."""
        notice = ui.notification("Writing the tables ...", spinner=True, timeout=None)
        try:
            outcome = await run.io_bound(act, self._page.viewer.result, *given)
        except PanimbusError as error:
            ui.notify(str(error), type="negative", multi_line=True, timeout=0, close_button=True)
            return None
        finally:
            notice.dismiss()
        self._on_change()
        return outcome
