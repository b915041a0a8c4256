"""Charts: deterministic, free of markup from data, independent of the user's settings."""

import matplotlib as mpl
import pytest

from panimbus.render.charts import chart_style, legend, new_figure, png_chart, svg_chart


@chart_style()
def chart(name="CD3"):
    figure = new_figure(3, 2)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], "o-")
    axes.set_title(name)
    legend(figure, {name: (255, 0, 10)})
    return figure


def test_the_same_bytes_whatever_the_settings():
    before = svg_chart(chart(), "a"), png_chart(chart())
    with mpl.rc_context({"font.size": 20, "lines.linewidth": 9, "svg.hashsalt": None}):
        assert (svg_chart(chart(), "a"), png_chart(chart())) == before
        assert mpl.rcParams["font.size"] == 20


def test_svg_is_one_element_with_a_label():
    text = svg_chart(chart(), 'a "b"')
    assert text.startswith("<svg viewBox=")
    assert text.rstrip().endswith("</svg>")
    assert 'aria-label="a &#34;b&#34;"' in text
    for word in ("metadata", "<!--", "<?xml", "Matplotlib"):
        assert word not in text


@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>", "a $b$ c", "$\\bad{", "a & b", "細胞"]
)
def test_names_are_only_text(name):
    text = svg_chart(chart(name), name)
    assert "<script" not in text
    assert name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") in text
    assert png_chart(chart(name)).startswith(b"\x89PNG")
