"""Review: the cells of a marker, one after another, answered by keyboard."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

from nicegui import ui
from nicegui.events import KeyEventArguments

from panimbus.annotations.choose import Candidates
from panimbus.annotations.log import DISCUSSION, FIRST, LOG, SECOND, AnnotationLog
from panimbus.annotations.table import (
    LIKELY_NEGATIVE,
    LIKELY_POSITIVE,
    NEGATIVE,
    POSITIVE,
    UNDETERMINED,
)
from panimbus.core.errors import InputError, PanimbusError
from panimbus.evaluate.questions import marker_candidates
from panimbus.render.images import data_uri
from panimbus.viewer.asked import CLOSE_UM, CONTEXT_UM, AskedPictures
from panimbus.viewer.export import export_buttons
from panimbus.viewer.recalibration import RecalibrationPanel
from panimbus.viewer.result import Tables
from panimbus.viewer.review import AskedCell, ReviewSession, agreement_of, estimate_of
from panimbus.viewer.state import Page

TITLE = "Review"
KEYS = {
    POSITIVE: ("p", "1"),
    LIKELY_POSITIVE: ("o", "2"),
    UNDETERMINED: ("u", "3"),
    LIKELY_NEGATIVE: ("b", "4"),
    NEGATIVE: ("n", "5"),
}
"""Answer -> the keys that give it: likely ones lie next to the sure ones."""
_SIGNS = {
    POSITIVE: "+", LIKELY_POSITIVE: "(+)", UNDETERMINED: "?", LIKELY_NEGATIVE: "(−)", NEGATIVE: "−",
}  # fmt: skip
_ROUNDS = {FIRST: "First reader", SECOND: "Second reader, blind", DISCUSSION: "Discussion"}
_HELP = {
    FIRST: "Most cells lie where an answer teaches most, each chosen after the last answer; a"
    " quarter is drawn at random.",
    SECOND: "Cells that somebody else answered. Neither that answer nor the model's is shown.",
    DISCUSSION: "Cells on which readers differ, with their answers. What you agree on counts.",
}
_FOCUS, _THUMB = 480, 64
_STYLE = """
.pn-asked { max-width: max(960px, calc(3 * (100vh - 420px))); }
.pn-asked img { width: 100%; image-rendering: pixelated; border-radius: 4px; background: #000;
  aspect-ratio: 1; }
.pn-thumb { width: 72px; height: 72px; border: 3px solid #3a424d; border-radius: 4px; padding: 0;
  background: #21262e; color: #c3c9d1; position: relative; overflow: hidden; cursor: pointer;
  display: flex; align-items: center; justify-content: center; }
.pn-thumb img { width: 100%; height: 100%; image-rendering: pixelated; display: block; }
.pn-thumb[disabled] { cursor: default; opacity: .55; }
.pn-thumb[aria-current=true] { outline: 3px solid #fff; outline-offset: 1px; }
.pn-thumb[data-call] .pn-sign { position: absolute; right: 0; bottom: 0; padding: 0 4px;
  font: 700 13px/18px sans-serif; background: #14171ce0; color: #fff; border-radius: 4px 0 0 0; }
.pn-thumb[data-call="positive"] { border-color: #ffb000; }
.pn-thumb[data-call="likely positive"] { border: 3px dashed #ffb000; }
.pn-thumb[data-call="negative"] { border-color: #56a0ff; }
.pn-thumb[data-call="likely negative"] { border: 3px dashed #56a0ff; }
.pn-thumb[data-call="undetermined"] { border-color: #c3c9d1; }
.pn-key { font: 600 12px/18px monospace; background: #14171c; border: 1px solid #5a6572;
  border-radius: 3px; padding: 0 6px; color: #e8eaed; }
"""


def review_page(page: Page) -> None:
    """Build the page."""
    ui.add_css(_STYLE)
    viewer = page.viewer
    marker = page.query.get("marker", "")
    marker = marker if marker in viewer.tables.markers else viewer.tables.markers[0]
    given = page.query.get("round", "")
    round_ = int(given) if given in map(str, _ROUNDS) else FIRST
    ReviewPage(page, marker, round_, min(_number(page.query.get("n"), 20), 500)).build()


def _number(text: str | None, default: int) -> int:
    """A whole number above 0 of an address."""
    usable = text is not None and text.isascii() and text.isdigit() and len(text) < 10
    return (int(text or 0) if usable else 0) or default


@lru_cache(maxsize=16)
def candidates_for(tables: Tables, marker: str) -> Candidates:
    """The cells of a marker that can be asked; kept for the tables last used."""
    return marker_candidates(tables.cells, marker, tables.types)


class ReviewPage:
    """The page of one marker and round.

    Parameters
    ----------
    page
    marker
    round_
    count
        Cells to ask.
    """

    def __init__(self, page: Page, marker: str, round_: int, count: int) -> None:
        viewer = page.viewer
        self.page, self.marker, self.round, self.count = page, marker, round_, count
        self.log = AnnotationLog(viewer.result.folder / LOG)
        self.candidates = candidates_for(viewer.tables, marker)
        self.pictures = AskedPictures(viewer.pictures, marker)
        self.session: ReviewSession | None = None
        if page.annotator and not viewer.read_only:
            seed = _number(page.query.get("seed"), secrets.randbelow(1 << 31))
            self.session = ReviewSession(
                self.log, self.candidates, page.annotator, round_, count, seed
            )  # fmt: skip
        self.gain = 1.0
        self._thumbs: list[tuple[Any, Any, Any]] = []
        self._drawn: dict[int, tuple[str, int]] = {}

    # -- building ----------------------------------------------------------------------------------

    def build(self) -> None:
        """Draw the whole page."""
        with ui.row().classes("w-full h-full no-wrap gap-0"):
            with ui.column().classes("pn-panel border-r h-full w-72 shrink-0 overflow-auto p-3"):
                self._settings()
                self._figures = ui.column().classes("w-full gap-1")
                ui.separator()
                self._recalibration = RecalibrationPanel(
                    self.page, self.marker, self.log, self._show_figures
                )
                self._recalibration.build()
                ui.separator()
                export_buttons(self.page, self.log)
            with ui.column().classes("grow h-full overflow-auto p-4 gap-3 min-w-0"):
                self._main()
        self._show()

    def _settings(self) -> None:
        markers = list(self.page.viewer.tables.markers)
        marker = ui.select(
            markers, value=self.marker, label="Marker", with_input=len(markers) > 12,
            on_change=lambda e: self._reload(marker=e.value),
        )  # fmt: skip
        marker.classes("w-full").props('dense dark outlined options-dense data-test="marker"')
        round_ = ui.select(
            _ROUNDS, value=self.round, label="Round",
            on_change=lambda e: self._reload(round=e.value),
        )  # fmt: skip
        round_.classes("w-full").props('dense dark outlined options-dense data-test="round"')
        ui.label(_HELP[self.round]).classes("pn-soft text-xs")
        with ui.row().classes("w-full items-center no-wrap gap-2"):
            field = ui.number("Cells", value=self.count, min=1, max=500, precision=0)
            field.classes("w-20").props('dense dark outlined data-test="count"')
            ui.button("Ask", on_click=lambda: self._reload(n=int(field.value or 20))).props(
                'no-caps dense outline data-test="ask"'
            ).tooltip("Choose cells anew; answers are kept")
        ui.label("Brightness").classes("text-xs pn-soft")
        slider = ui.slider(min=-2, max=4, step=0.5, value=0, on_change=self._brighten)
        slider.classes("w-full").props('dense dark data-test="gain" aria-label="Brightness"')
        ui.separator()

    def _main(self) -> None:
        with ui.row().classes("w-full items-baseline no-wrap gap-4"):
            self._title = ui.label().classes("text-lg font-bold").props('data-test="title"')
            self._progress = (
                ui.label().classes("pn-soft").props('data-test="progress" aria-live=polite')
            )
        self._message = (
            ui.label().classes("text-base whitespace-pre-wrap").props('data-test="message"')
        )
        self._asked = ui.column().classes("w-full gap-3")
        if self.session is None:
            return
        with self._asked:
            with ui.row().classes("w-full no-wrap gap-3 pn-asked"):
                self._views = [self._view(title) for title in (
                    f"{self.marker}, {CLOSE_UM:g} µm", "with its outline",
                    f"around it, {CONTEXT_UM:g} µm",
                )]  # fmt: skip
            self._earlier = ui.label().classes("text-sm").props('data-test="earlier"')
            self._answer_buttons()
        with ui.row().classes("w-full gap-2").props('data-test="grid" aria-label="Cells"'):
            self._thumbs = [self._thumb(i) for i in range(len(self.session.items))]
        keyboard = ui.keyboard(self._key, repeating=False, ignore=["input", "select", "textarea"])
        keyboard.active = True

    def _view(self, title: str) -> Any:
        with ui.column().classes("gap-1 grow basis-0 min-w-0"):
            picture = ui.element("img").props(f'alt="{title}"'.replace("µ", "u"))
            ui.label(title).classes("pn-soft text-xs")
        return picture

    def _answer_buttons(self) -> None:
        with ui.row().classes("w-full items-center gap-2"):
            for call, keys in KEYS.items():
                self._button(call.capitalize(), keys[0].upper(), partial(self._answer, call), call)
            ui.space()
            self._button("Back", "←", self._back, "back")
            self._button("Skip", "→", self._forward, "skip")
            self._button("Undo", "Z", self._undo, "undo")

    def _button(self, text: str, key: str, act: Callable[[], None], name: str) -> None:
        button = ui.button(on_click=act).props(
            f'no-caps outline dense color=grey-4 data-test="{name.replace(" ", "-")}"'
        )
        with button.classes("px-2"):
            ui.label(text).classes("mr-2")
            ui.label(key).classes("pn-key")

    def _thumb(self, position: int) -> tuple[Any, Any, Any]:
        box = ui.element("button").classes("pn-thumb").props(f'aria-label="Cell {position + 1}"')
        box.on("click", partial(self._go, position))
        with box:
            picture = ui.element("img").props('alt=""')
            picture.set_visibility(False)
            sign = ui.label(str(position + 1)).classes("pn-sign")
        return box, picture, sign

    # -- what happens ------------------------------------------------------------------------------

    def _key(self, event: KeyEventArguments) -> None:
        modifiers = event.modifiers
        if not event.action.keydown or modifiers.ctrl or modifiers.alt or modifiers.meta:
            return
        name = event.key.name.lower()
        calls = {key: call for call, keys in KEYS.items() for key in keys}
        acts = {"arrowleft": self._back, "arrowright": self._forward, "z": self._undo,
                "backspace": self._undo}  # fmt: skip
        if name in calls:
            self._answer(calls[name])
        elif name in acts:
            acts[name]()

    def _answer(self, call: str) -> None:
        if self.session is not None and self.session.current is not None and self._asked.visible:
            self._do(lambda session: session.answer(call))

    def _undo(self) -> None:
        self._do(ReviewSession.undo)

    def _back(self) -> None:
        self._do(ReviewSession.back)

    def _forward(self) -> None:
        self._do(ReviewSession.forward)

    def _go(self, position: int) -> None:
        self._do(lambda session: session.go(position))

    def _do(self, act: Callable[[ReviewSession], object]) -> None:
        """Do something with the session; tell the reader if it could not be stored."""
        if self.session is None:
            return
        try:
            act(self.session)
        except InputError as error:
            ui.notify(error.problem, type="warning", position="top")
        except OSError as error:
            ui.notify(f"Not stored: {error.strerror or error}", type="negative", position="top")
        self._show()

    def _brighten(self, event: Any) -> None:
        self.gain = 2.0 ** float(event.value)
        self._drawn.clear()
        ui.run_javascript("document.activeElement.blur()")
        self._show()

    def _reload(self, **changes: object) -> None:
        given: dict[str, object] = {"marker": self.marker, "round": self.round, "n": self.count}
        ui.navigate.to(self.page.link(None, **(given | changes)))

    # -- showing -----------------------------------------------------------------------------------

    def _show(self) -> None:
        session = self.session
        item = session.current if session is not None else None
        self._title.set_text(self.marker)
        self._message.set_text(self._advice())
        self._message.set_visibility(item is None)
        self._asked.set_visibility(item is not None)
        if session is not None:
            number = f"cell {session.at + 1} of {len(session.items)}" if item else "no cell left"
            self._progress.props["data-cell"] = f"{item.fov}:{item.cell_id}" if item else ""
            self._progress.set_text(f"{number}, {session.answered} answered")
            try:
                if item is not None:
                    self._show_item(item)
                for position, one in enumerate(session.items):
                    self._show_thumb(position, one, is_current=one is item)
            except PanimbusError as error:  # an image that is gone, or damaged
                self._message.set_text(str(error))
                self._message.set_visibility(True)
                self._asked.set_visibility(False)
        self._show_figures()
        self._recalibration.show()

    def _is_asking(self) -> bool:
        """Whether figures that involve the model's calls would hint at them."""
        return self.session is not None and self.session.current is not None

    def _advice(self) -> str:
        if self.page.viewer.read_only:
            return "Read only: answers cannot be given here."
        if self.session is None:
            return "Give your name (above, at the right) to annotate."
        if self.session.items and self.session.answered:
            return "Every cell has an answer. Ask for more, or take the next marker or round."
        return {
            FIRST: "There is no cell left to ask.",
            SECOND: "Nobody else has answered cells of this marker that you have not.",
            DISCUSSION: "Readers do not differ on any cell of this marker.",
        }[self.round]

    def _show_item(self, item: AskedCell) -> None:
        where, gain = (item.fov, item.cell_id), self.gain
        drawn = [
            self.pictures.close_up(*where, pixels=_FOCUS, outline=False, gain=gain),
            self.pictures.close_up(*where, pixels=_FOCUS, outline=True, gain=gain),
            self.pictures.context(*where, pixels=_FOCUS, gain=gain),
        ]
        for view, picture in zip(self._views, drawn, strict=True):
            view.props["src"] = data_uri(picture)
            view.update()
        self._earlier.set_text("; ".join(f"{name}: {call}" for name, call in item.earlier))
        self._earlier.set_visibility(bool(item.earlier))

    def _show_thumb(self, position: int, item: AskedCell, *, is_current: bool) -> None:
        box, picture, sign = self._thumbs[position]
        call = item.given.call if item.given is not None else None
        box.props["aria-current"] = "true" if is_current else "false"
        for name, value in (("data-call", call), ("disabled", None if item.seen else "")):
            if value is None:
                box.props.pop(name, None)
            else:
                box.props[name] = value
        box.update()
        sign.set_text(_SIGNS[call] if call is not None else str(position + 1))
        key = (item.fov, item.cell_id)
        if item.seen and self._drawn.get(position) != key:
            small = self.pictures.close_up(
                *key, pixels=_THUMB, outline=True, others=False, gain=self.gain
            )
            picture.props["src"] = data_uri(small)
            picture.update()
            picture.set_visibility(True)
            self._drawn[position] = key

    def _show_figures(self) -> None:
        """Agreement of the readers, and the estimate of precision and recall."""
        self._figures.clear()
        standing = [a for a in self.log.answers() if a.channel == self.marker]
        hidden = self.session is not None and self.session.is_blind
        agreement = None if hidden else agreement_of(standing)
        candidates = candidates_for(self.page.viewer.tables, self.marker)  # thresholds may move
        made = estimate_of(standing, candidates)
        with self._figures:
            ui.label("Agreement (kappa)").classes("text-sm font-bold")
            with ui.column().classes("gap-0 text-sm").props('data-test="agreement"'):
                if hidden:
                    ui.label("shown when you have answered all cells").classes("pn-soft")
                elif agreement is None:
                    ui.label("no cell was read by two").classes("pn-soft")
                else:
                    for row in agreement.to_dict("records"):
                        kappa = f"{row['kappa']:.2f}".replace("nan", "not defined")
                        pair = f"{row['annotator_1']}, {row['annotator_2']}"
                        ui.label(f"{pair}: {kappa} ({row['cells']} cells)")
            ui.label("Estimate for this marker").classes("text-sm font-bold mt-2")
            with ui.column().classes("gap-0 text-sm").props('data-test="estimate"'):
                if self.round != DISCUSSION and self._is_asking():
                    ui.label("shown when you have answered all cells").classes("pn-soft")
                    return
                for name in ("precision", "recall", "f1"):
                    ui.label(f"{name.capitalize()} {getattr(made, name)}")
                ui.label(f"from {made.answers} random answers, 95 % intervals").classes(
                    "pn-soft text-xs"
                )
