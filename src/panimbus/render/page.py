"""HTML pages that need nothing else: style, pictures and charts are inside the file."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from panimbus.render.images import data_uri
from panimbus.render.palette import hex_colour

if TYPE_CHECKING:
    from jinja2 import Environment


def render_page(template: str, **values: Any) -> str:
    """Fill a template of ``render/templates``.

    Parameters
    ----------
    template
        Its file name.
    values
        What it shows. Text is escaped, so names from data cannot become markup; charts of
        `panimbus.render.charts` are inserted as they are.
    """
    return _environment().get_template(template).render(**values) + "\n"


def render_part(name: str, *values: Any) -> str:
    """One piece of a page: a macro of ``parts.html``, escaped as in `render_page`."""
    return str(getattr(_environment().get_template("parts.html").module, name)(*values))


def format_number(value: float, digits: int = 2) -> str:
    """A number with fixed decimals; a dash for NaN."""
    return "–" if math.isnan(value) else f"{value:,.{digits}f}"


@lru_cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("panimbus.render"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"png": data_uri, "hex": hex_colour, "number": format_number}
    return environment
