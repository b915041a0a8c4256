"""Numbers in tables: decimal commas, words for missing values, exact cell ids."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from panimbus.core.errors import InputError, format_list

if TYPE_CHECKING:
    import pandas as pd

LINE = "line"
"""Name of an index that holds the lines of the file."""
MISSING_WORDS = (
    "",
    "NA",
    "N/A",
    "n/a",
    "NaN",
    "nan",
    "NAN",
    "-nan",
    "-NaN",
    "null",
    "NULL",
    "None",
    "none",
    "<NA>",
    "#N/A",
    "#NA",
    "#NV",
)
"""Words for a missing value; German spreadsheets write ``#NV``."""
_COMMA = re.compile(r"[+-]?(\d+,\d*|,\d+)([eE][+-]?\d+)?")
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+")
_GROUPED = re.compile(r"[+-]?\d{1,3}([.,'’\s]\d{3})+([.,]\d+)?")
_REFORMATTED = re.compile(r"[+-]?\d{1,3}([.,]\d{3})+|[+-]?\d+([.,]\d*)?[eE][+-]?\d+")
_LARGEST = np.iinfo(np.int64).max
_SHOWN = 5


def describe_lines(mask: pd.Series[bool], limit: int = 8) -> str:
    """Describe where a mask is true: lines of a text file, or rows of another table.

    Examples
    --------
    >>> import pandas as pd
    >>> describe_lines(pd.Series([True, False, True]))
    'rows 1, 3'
    >>> describe_lines(pd.Series([True], index=pd.Index([7], name="line")))
    'line 7'
    """
    at = np.flatnonzero(mask.to_numpy())
    word = LINE if mask.index.name == LINE else "row"
    shown = [str(n) for n in (mask.index[at] if word == LINE else at + 1)]
    return f"{word}{'s' * (len(shown) != 1)} {format_list(shown, limit)}"


def is_numeric(column: pd.Series[Any]) -> bool:
    """Whether a column is numeric; booleans are not."""
    import pandas as pd

    return bool(pd.api.types.is_numeric_dtype(column)) and not pd.api.types.is_bool_dtype(column)


def to_numbers(
    frame: pd.DataFrame, sure: Iterable[str], where: object, *, perhaps: Iterable[str] = ()
) -> tuple[dict[str, pd.Series[Any]], list[str]]:
    """Read columns of text as numbers.

    A decimal comma is understood where the table has no decimal point; with both, or where a comma
    may be a separator of thousands, the table is refused.

    Parameters
    ----------
    frame
        Its index may be the lines of the file (see `describe_lines`).
    sure
        Columns that must be numbers.
    where
        The file, for messages.
    perhaps
        Columns that may be text: they are if more than half of the values are not numbers.

    Returns
    -------
    dict
        Column -> numbers, NaN for nothing; columns of numbers as they are.
    list
        The columns that are text.

    Raises
    ------
    InputError
        With line, column and value of anything that is not a number.
    """
    import pandas as pd

    sure, perhaps = list(sure), list(perhaps)
    out: dict[str, pd.Series[Any]] = {}
    commas: dict[str, pd.Series[Any]] = {}
    points, texts, wrong = [], [], []
    for name in (*sure, *perhaps):
        column = frame[name]
        if is_numeric(column):
            out[name] = column
            continue
        text = column.astype(object).where(column.notna(), "").astype(str).str.strip()
        given = ~text.isin(MISSING_WORDS)
        value = pd.to_numeric(text.where(given), errors="coerce").astype(np.float64)
        unparsed = given & value.isna()
        comma = unparsed & text.str.fullmatch(_COMMA.pattern)
        unparsed &= ~comma
        if name in perhaps and 2 * int(
            (unparsed & ~text.str.fullmatch(_GROUPED.pattern)).sum()
        ) > int(given.sum()):
            texts.append(name)
            continue
        if unparsed.any():
            wrong.append(
                f"{describe_lines(unparsed, 3)}, {name}: {_shown_values(text[unparsed])}"
                f" ({int(unparsed.sum()):,} of {len(frame):,})"
            )
        if comma.any():
            commas[name] = text[comma]
        if text[value.notna()].str.contains(".", regex=False).any():
            points.append(name)
        out[name] = value
    if wrong:
        raise InputError(
            f"{where}: there is text among the numbers.",
            expected=(
                "numbers such as 0.5 (or 0,5), without separators of thousands; nothing, or NaN,"
                " where there is none"
            ),
            got="\n             ".join(wrong[:12]),
            fix="correct the values, or take these columns out",
        )
    if commas:
        points += [
            n
            for n, c in out.items()
            if is_numeric(frame[n]) and bool((np.isfinite(c) & (c != np.round(c))).any())
        ]
        _check_commas(commas, points, where)
        for name, text in commas.items():
            value = pd.to_numeric(text.str.replace(",", ".", regex=False)).astype(np.float64)
            out[name] = out[name].where(
                ~out[name].index.isin(text.index), value.reindex(out[name].index)
            )
    return out, texts


def _check_commas(commas: dict[str, pd.Series[Any]], points: list[str], where: object) -> None:
    """Refuse commas that may be separators of thousands."""
    fix = (
        "write the numbers without separators of thousands, and all of them with a point or all"
        " with a comma"
    )
    if points:
        name, text = next(iter(commas.items()))
        raise InputError(
            f"{where}: some numbers have a decimal comma and some a decimal point.",
            got=f"{text.iloc[0]!r} in {name}; points in {format_list(points, _SHOWN)}",
            fix=fix,
        )
    if all(text.str.fullmatch(_THOUSANDS.pattern).all() for text in commas.values()):
        name, text = next(iter(commas.items()))
        raise InputError(
            f"{where}: a comma may be a decimal comma or part thousands.",
            got=f"{_shown_values(text)} in {name}",
            fix=fix,
        )


def _shown_values(column: pd.Series[Any]) -> str:
    return format_list([repr(v) for v in dict.fromkeys(column.tolist())], _SHOWN)


def cell_ids(
    column: pd.Series[Any], where: object, *, fix: str | None = None
) -> npt.NDArray[np.int64]:
    """Cell ids (values of a label image) as exact int64; floats are exact only below 2^53.

    Parameters
    ----------
    column : (n,)
        Whole numbers, as numbers or as text; ``12.0`` is accepted.
    where
        File and column, for messages.
    fix
        Fix for the error message.

    Raises
    ------
    InputError
        On values that are not whole numbers, are too large, or were rounded.
    """
    ids, whole = whole_numbers(column)
    if not whole.all():
        wrong = column[~whole]
        if (
            wrong.astype(str).str.strip().str.fullmatch(_REFORMATTED.pattern).any()
        ):  # 1.918 for 1918, 1E+05 for 100000
            fix = (
                "format the column as whole numbers without separators, or as text, in the"
                " spreadsheet, and save it again"
            )
        raise InputError(
            f"{where}: ids of cells that are no whole number below 2^63, as the values of a label"
            " image are.",
            got=(
                f"{_shown_values(wrong.astype(str))} in"
                f" {describe_lines((~whole).set_axis(column.index))}"
            ),
            fix=fix,
        )
    return ids


def whole_numbers(column: pd.Series[Any]) -> tuple[npt.NDArray[np.int64], pd.Series[bool]]:
    """Exact int64 values, and a mask of the values that are whole numbers."""
    import pandas as pd

    given = column.to_numpy()
    if given.dtype.kind in "iu":
        ids, whole = given, given <= _LARGEST
    elif given.dtype.kind == "f":  # above 2^53 other numbers were rounded to these
        ids, whole = (
            given,
            np.isfinite(given) & (given == np.round(given)) & (np.abs(given) <= 2.0**53),
        )
    else:
        text = column.astype(str).str.strip()
        joined = "".join(text)
        if (
            joined.isascii() and joined.isdecimal() and text.map(len).between(1, 18).all()
        ):  # nearly always
            return np.array(text.tolist()).astype(np.int64), pd.Series(
                data=True, index=column.index
            )
        thousand = text.str.fullmatch(r"[1-9]\d{0,2}[.,]000")  # 1 or 1000
        if not text.str.fullmatch(r"\d{4,}[.,]000").any():
            text = text.mask(thousand, "?")
        text = text.str.replace(r"[.,]0+$", "", regex=True)
        whole = text.str.fullmatch(r"[+-]?[0-9]{1,19}").to_numpy(np.bool_)
        ids = pd.Series(np.where(whole, text, "0")).map(int).to_numpy(object)
        whole = whole & (np.abs(ids) <= _LARGEST)  # pandas 3 gives arrays that cannot be written
    return np.where(whole, ids, 0).astype(np.int64), pd.Series(
        whole, index=column.index, dtype=bool
    )
