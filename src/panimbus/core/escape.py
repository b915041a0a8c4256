"""Escape text for spreadsheets, which run formulas, and for Markdown, which renders markup."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

# Text that a spreadsheet would compute; "-10_3" and "+ve" are names. Leading apostrophes are
# included so that the inverse is exact.
_FORMULA = re.compile(r"'*(?:[=@\t\r]|[+-].*[(|!=])", re.DOTALL)
_MARKUP = str.maketrans(
    {
        "\\": "\\\\",
        "`": "\\`",
        "|": "\\|",
        "<": "&lt;",
        **{chr(k): " " for k in (*range(32), 127, 0x2028, 0x2029)},
    }
)


def escape_formula(text: str) -> str:
    """Prefix text that a spreadsheet would take for a formula with an apostrophe.

    Examples
    --------
    >>> [escape_formula(text) for text in ("=1+1", "-10_3", "CD3+", "'=x")]
    ["'=1+1", '-10_3', 'CD3+', "''=x"]
    """
    return f"'{text}" if _FORMULA.match(text) else text


def unescape_formula(text: str) -> str:
    """Inverse of `escape_formula`; other text is unchanged.

    Examples
    --------
    >>> unescape_formula("'=1+1"), unescape_formula("'a'")
    ('=1+1', "'a'")
    """
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def escape_formulas(frame: pd.DataFrame) -> pd.DataFrame:
    """Apply `escape_formula` to all text and column names of a table."""
    import pandas as pd

    out = frame.copy(deep=False)
    for k, name in enumerate(frame.columns):
        column = frame.iloc[:, k]
        if pd.api.types.is_numeric_dtype(column.dtype) or pd.api.types.is_bool_dtype(column.dtype):
            continue
        changed = {
            v: new
            for v in column.unique()
            if isinstance(v, str) and (new := escape_formula(v)) != v
        }
        if changed:
            out[name] = [changed.get(v, v) if isinstance(v, str) else v for v in column]
    out.columns = pd.Index([escape_formula(c) if isinstance(c, str) else c for c in frame.columns])
    return out


def escape_markdown(text: object) -> str:
    r"""Escape the markup of a Markdown line or table cell.

    Examples
    --------
    >>> print(escape_markdown("<b> a|b"))
    &lt;b> a\|b
    """
    return str(text).translate(_MARKUP).replace("](", "]\\(")
