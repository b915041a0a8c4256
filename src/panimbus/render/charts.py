"""Charts with matplotlib: their style, and figures as PNG files or inline SVG.

Functions that draw a chart are decorated with `chart_style`. The same data give the same bytes,
whatever the user's own matplotlib settings are.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from panimbus.render.palette import Rgb, hex_colour

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, SOFT, LINE = "#222428", "#70747a", "#d8d7d2"
DPI = 130
_STYLE: dict[Any, Any] = {
    "font.size": 9, "text.color": INK, "text.parse_math": False, "axes.edgecolor": SOFT,
    "axes.labelcolor": SOFT, "axes.labelsize": 8, "axes.axisbelow": True, "grid.color": LINE,
    "xtick.color": SOFT, "xtick.labelsize": 8, "ytick.color": SOFT, "ytick.labelcolor": INK,
    "ytick.labelsize": 8, "legend.frameon": False, "legend.fontsize": 8, "svg.fonttype": "none",
}  # fmt: skip


@contextmanager
def chart_style() -> Iterator[None]:
    """Draw in the house style; a ``$`` in a name is a dollar, not mathematics."""
    import matplotlib as mpl

    with mpl.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a box stands for the letter
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


def new_figure(
    width: float, height: float, *, layout: Literal["constrained"] | None = "constrained"
) -> Figure:
    """An empty figure, in inches.

    Layout None (with margins given to ``subplots``) takes half the time, for many small charts.
    """
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout=layout)


@chart_style()
def png_chart(figure: Figure) -> bytes:
    """A figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


@chart_style()
def svg_chart(figure: Figure, label: str) -> Markup:
    """A figure as an SVG element for a page; ``label`` is read out by screen readers."""
    import matplotlib as mpl
    from markupsafe import Markup, escape

    mpl.rcParams["svg.hashsalt"] = label  # ids that differ between the charts of a page
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", buffer.getvalue(), flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text[text.index("<svg") :])
    text = re.sub(r' d="[^"]*"', lambda d: re.sub(r"(\.\d\d)\d+", r"\1", d[0]), text)
    box = re.search(r'viewBox="[^"]*"', text)
    head = (
        f'<svg {box[0] if box else ""} role="img" aria-label="{escape(label)}"'
        f' style="max-width:{96 * figure.get_figwidth():.0f}px">'
    )
    return Markup(head + text[text.index(">") + 1 :])  # noqa: S704 (matplotlib escapes its texts)


@chart_style()
def svg_document(figure: Figure, name: str, description: str) -> str:
    """A figure as the text of an SVG file, the same for the same data; texts stay texts."""
    import matplotlib as mpl

    mpl.rcParams["svg.hashsalt"] = name
    buffer = io.StringIO()
    metadata = {**dict.fromkeys(("Date", "Creator", "Format", "Type")), "Title": name}
    figure.savefig(buffer, format="svg", metadata={**metadata, "Description": description})
    text = buffer.getvalue()
    return re.sub(r' d="[^"]*"', lambda d: re.sub(r"(\.\d\d)\d+", r"\1", d[0]), text)


def legend(owner: Figure | Axes, colours: Mapping[str, Rgb], **options: Any) -> None:
    """Add names with their colours, by default at the right of a figure."""
    from matplotlib.patches import Patch

    handles = [Patch(color=hex_colour(colour), label=name) for name, colour in colours.items()]
    owner.legend(handles=handles, **({"loc": "outside right center"} | options))
