"""Pages from templates."""

import math

import jinja2
import pytest

from panimbus.render.page import format_number, render_page

EVIL = "<script>alert('1')</script>"


def test_text_is_escaped():
    page = render_page("base.html", title=EVIL)
    assert page.startswith("<!doctype html>")
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "--accent: #7e2268" in page  # the style sheet is inside


def test_a_missing_value_is_an_error():
    with pytest.raises(jinja2.UndefinedError, match="title"):
        render_page("base.html")


def test_numbers():
    assert (format_number(1234.5), format_number(0.12345, 3), format_number(math.nan)) == (
        "1,234.50",
        "0.123",
        "–",
    )
