"""Names that spreadsheets would compute and Markdown would render."""

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from panimbus.core.escape import (
    escape_formula,
    escape_formulas,
    escape_markdown,
    unescape_formula,
)

HOSTILE = [
    "=cmd|' /C calc'!A0",
    "@SUM(A1)",
    "+1+cmd|'x'!A1",
    "-2+3+cmd|'x'!A1",
    "\t=1",
    "\r=1",
    '=HYPERLINK("x")',
    "-(1)",
]
NAMES = ["CD3", "CD3+", "-10_3", "+ve", "a=b", "O'Brien", "'quoted'", "", "µ", "1-2"]


@pytest.mark.parametrize("text", HOSTILE)
def test_formulas_become_text(text):
    assert escape_formula(text) == f"'{text}"
    assert unescape_formula(escape_formula(text)) == text


@pytest.mark.parametrize("text", NAMES)
def test_names_stay(text):
    assert escape_formula(text) == unescape_formula(text) == text


@settings(max_examples=500)
@given(st.text() | st.text(st.sampled_from("'=+-@|(!\t\ra1")))
def test_the_way_back_is_exact(text):
    assert unescape_formula(escape_formula(text)) == text
    assert escape_formula(text).lstrip("'")[:1] not in ("=", "@", "\t", "\r") or escape_formula(
        text
    ).startswith("'")


def test_tables():
    frame = pd.DataFrame(
        {"=x": [1, 2], "fov": ["a", "@b"], "t": pd.Categorical(["=c", "d"]), "n": [None, "-(2"]}
    )
    before = frame.copy()
    safe = escape_formulas(frame)
    assert list(safe) == ["'=x", "fov", "t", "n"]
    expected = [[1, "a", "'=c", None], [2, "'@b", "d", "'-(2"]]
    assert safe.astype(object).where(safe.notna(), None).to_numpy().tolist() == expected
    pd.testing.assert_frame_equal(frame, before)
    back = safe.astype(object).map(lambda v: unescape_formula(v) if isinstance(v, str) else v)
    back = back.rename(columns=unescape_formula).astype(object)
    pd.testing.assert_frame_equal(back, frame.astype(object))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("CD3_a*", "CD3_a*"),
        ("a|b", "a\\|b"),
        ("<script>alert(1)</script>", "&lt;script>alert(1)&lt;/script>"),
        ("`x`", "\\`x\\`"),
        ("a\n# b\r\nc\u2028d", "a # b  c d"),
        ("[x](javascript:y)", "[x]\\(javascript:y)"),
        ("a\\|b", "a\\\\\\|b"),
        ("0.5 [0.4, 0.6]", "0.5 [0.4, 0.6]"),
    ],
)
def test_markdown(text, expected):
    assert escape_markdown(text) == expected
