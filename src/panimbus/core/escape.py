"""Names from elsewhere in files that other programs interpret.

Spreadsheets run formulas, Markdown renders markup.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

# What a spreadsheet would compute; "-10_3" and "+ve" are names. Apostrophes in front count, too: so
# the way back is exact.
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
    """Text that no spreadsheet takes for a formula.

    An apostrophe goes in front of what begins like one.

    Examples
    --------
    >>> escape_formula("=1+1"), escape_formula("-10_3"), escape_formula("CD3+"), escape_formula("'=x")
    ("'=1+1", '-10_3', 'CD3+', "''=x")
    """
    return f"'{text}" if _FORMULA.match(text) else text


def unescape_formula(text: str) -> str:
    """The inverse of `escape_formula`; other text is left as it is.

    Examples
    --------
    >>> unescape_formula("'=1+1"), unescape_formula("'a'")
    ('=1+1', "'a'")
    """
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def escape_formulas(frame: pd.DataFrame) -> pd.DataFrame:
    """A table with all its text, and the names of its columns, as `escape_formula` makes them.

    Nothing is copied where none changes.
    """
    return _mapped(frame, escape_formula)


def unescape_formulas(frame: pd.DataFrame) -> pd.DataFrame:
    """The inverse of `escape_formulas`."""
    return _mapped(frame, unescape_formula)


def _mapped(frame: pd.DataFrame, change: Any) -> pd.DataFrame:
    import pandas as pd

    out = frame.copy(deep=False)
    for k, name in enumerate(frame.columns):
        column = frame.iloc[:, k]
        if pd.api.types.is_numeric_dtype(column.dtype) or pd.api.types.is_bool_dtype(column.dtype):
            continue
        changed = {
            v: new for v in column.unique() if isinstance(v, str) and (new := change(v)) != v
        }
        if changed:
            out[name] = [changed.get(v, v) if isinstance(v, str) else v for v in column]
    out.columns = pd.Index([change(c) if isinstance(c, str) else c for c in frame.columns])
    return out


def escape_markdown(text: object) -> str:
    r"""Text of a line or a table's cell of Markdown in which nothing is markup.

    Examples
    --------
    >>> print(escape_markdown("<b> a|b"))
    &lt;b> a\|b
    """
    return str(text).translate(_MARKUP).replace("](", "]\\(")
