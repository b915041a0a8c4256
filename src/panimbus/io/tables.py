"""The reader of tables: CSV, TSV, Parquet, exports of QuPath and spreadsheets.

Separators (comma, semicolon, tab, bar), decimal commas, encodings (UTF-8, UTF-16, Windows-1252),
quotes, empty rows and columns are understood; errors name line, column and value. Names
stay text (a FOV called 007), ids stay exact.
"""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from panimbus.core.errors import InputError, ReadError, format_list, need_extra
from panimbus.core.escape import unescape_formula
from panimbus.core.guard import guarded
from panimbus.io.documents import check_regular
from panimbus.io.names import stem
from panimbus.io.numbers import LINE, MISSING_WORDS, cell_ids, is_numeric, to_numbers
from panimbus.io.text import MOST_COLUMNS, detect_encoding, open_text, read_header

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

_MOST_VALUES = 1 << 31


@dataclass(frozen=True)
class Column:
    """A requested column.

    Parameters
    ----------
    name
        Name in the result, and the first one that is searched for.
    kind
        ``text``: as it stands, "" for nothing. ``number``: float64, NaN for nothing. ``id``: int64,
        exact.
    aliases
        Other names; case, spaces, ``_``, ``-`` and ``.`` do not count.
    required
        Whether a missing column is an error.
    """

    name: str
    kind: Literal["text", "number", "id"] = "text"
    aliases: tuple[str, ...] = ()
    required: bool = True


FOV_ALIASES = ("fov", "fov id", "image", "image id", "imageid", "image name", "sample", "sample id")
"""Column names of the FOV; ``Image`` is QuPath's and holds a file name."""
CELL_ALIASES = (
    "cell id",
    "label",
    "cell",
    "cellid",
    "cell label",
    "object",
    "object number",
    "objectnumber",
    "name",
)
"""Column names of the label value; ``Name`` is QuPath's, for cells that panimbus wrote."""


def fov_column(name: str = "fov", *, required: bool = True) -> Column:
    """The FOV of a cell, under any of its usual names."""
    return Column(name, "text", FOV_ALIASES, required)


def cell_column(name: str = "cell_id") -> Column:
    """The id of a cell, under any of its usual names."""
    return Column(name, "id", CELL_ALIASES)


def read_table(
    path: str | Path,
    columns: Sequence[Column] = (),
    *,
    expected: str = "a table (CSV, TSV or Parquet)",
    rest: Literal["text", "any", "none"] = "text",
    first: str | None = None,
    header: bool = True,
    comment: str | None = None,
) -> pd.DataFrame:
    """Read a table.

    Parameters
    ----------
    path
        ``.parquet``, or text whatever its ending; ``.gz`` will do.
    columns
        What is asked for; see `Column`.
    expected
        What the file should be, for messages.
    rest
        Other columns: ``text``, ``any`` (numbers where the column holds numbers), or ``none``: they
        are left out.
    first
        Name that a first column without one gets; None drops it (row numbers that programs write).
    header
        Whether the first row names the columns; else they are called ``0``, ``1`` ...
    comment
        What lines that are no rows begin with.

    Returns
    -------
    DataFrame
        The columns in their order under the names asked for; the index holds the lines of the file.

    Raises
    ------
    ReadError
        On files that are no table.
    InputError
        On columns that are missing or there twice, and on values of the wrong kind.
    """
    path = Path(path)
    check_regular(path, expected)
    frame = (
        _parquet(path)
        if path.suffix.lower() == ".parquet" and header
        else _text(path, columns, rest, first, expected, header=header, comment=comment)
    )
    places = _places(path, [str(c) for c in frame.columns], columns)
    if rest == "none":
        frame = frame[[c for c in frame.columns if c in places.values()]]
    frame = frame.rename(columns={given: name for name, given in places.items()})
    return _typed(path, frame, columns, rest, places)


def is_alias(name: str, columns: Sequence[Column]) -> bool:
    """Whether a name is that of a requested column or one of its aliases."""
    return any(_key(name) in (_key(c.name), *map(_key, c.aliases)) for c in columns)


def _key(name: str) -> str:
    return re.sub(r"[\s_.-]+", " ", unicodedata.normalize("NFKC", name).casefold()).strip()


def _places(path: Path, names: list[str], columns: Sequence[Column]) -> dict[str, str]:
    """Requested name -> name in the table."""
    keys = [_key(n) for n in names]
    out: dict[str, str] = {}
    for column in columns:
        if column.name in names:
            out[column.name] = column.name
    for column in columns:
        for alias in (
            () if column.name in out else dict.fromkeys(map(_key, (column.name, *column.aliases)))
        ):
            hits = [
                n
                for n, key in zip(names, keys, strict=True)
                if key == alias and n not in out.values()
            ]
            if len(hits) > 1:
                raise InputError(
                    f"{path}: several columns say the same.",
                    got=format_list(hits),
                    fix="keep one of them",
                )
            if hits:
                out[column.name] = hits[0]
                break
    if lost := [c for c in columns if c.required and c.name not in out]:
        unparted = len(names) == 1 and re.search(r"[^\w-]", names[0])
        raise InputError(
            f"{path}: columns are missing: {', '.join(c.name for c in lost)}.",
            expected=f"the columns {', '.join(c.name for c in columns if c.required)}",
            available=names,
            fix="separate the columns by commas, semicolons or tabs" if unparted else None,
        )
    return out


def _typed(
    path: Path, frame: pd.DataFrame, columns: Sequence[Column], rest: str, places: dict[str, str]
) -> pd.DataFrame:
    """Every column in its kind; ``places``: see `_places`."""
    import pandas as pd

    image = places.get("fov", places.get("fov_id"))

    kinds = {c.name: c.kind for c in columns if c.name in frame.columns}
    kinds |= {c: "text" for c in frame.columns if c not in kinds and rest == "text"}
    for name, kind in kinds.items():
        if kind == "text":
            column = frame[name].astype(object)
            frame[name] = column.map(
                {v: "" if pd.isna(v) else unescape_formula(str(v).strip()) for v in column.unique()}
            )
        elif kind == "id":
            frame[name] = _ids(path, frame[name], places[name])
    others = [c for c in frame.columns if c not in kinds]
    changed, _ = to_numbers(
        frame, [c for c, k in kinds.items() if k == "number"], path, perhaps=others
    )
    for name, values in changed.items():
        if not is_numeric(frame[name]):
            frame[name] = values
    for name in ("fov", "fov_id"):
        if image is not None and _key(image).startswith("image") and name in kinds:
            frame[name] = frame[name].map({v: _image_stem(v) for v in frame[name].unique()})
    return frame


def _ids(path: Path, column: pd.Series[Any], given: str) -> npt.NDArray[np.int64]:
    """The ids of a column, which the file calls ``given``."""
    fix = "give a column `label` with the values of the label image"
    if _key(given) == "name":
        fix = f"{fix}; objects that panimbus wrote for QuPath have them as names"
    if len(column) and (column.isna() | column.astype(str).str.strip().isin(MISSING_WORDS)).all():
        raise InputError(
            f"{path}: the column {given!r} is empty: it does not say which cell a row is.", fix=fix
        )
    return cell_ids(column, f"{path}, column {given}", fix=fix)


def _image_stem(name: str) -> str:
    """The FOV of an image's file name, after which QuPath may write the name of a series.

    Examples
    --------
    >>> _image_stem("fov1.ome.tiff - Series 0"), _image_stem("core - 3")
    ('fov1', 'core - 3')
    """
    file, separator, _ = name.partition(" - ")
    return stem(file) if separator and stem(file) != file else stem(name)


def _parquet(path: Path) -> pd.DataFrame:
    need_extra("Reading a Parquet table", "parquet", "pyarrow")
    import pandas as pd
    import pyarrow.parquet as pq

    with guarded(path, "the table cannot be read."), pq.ParquetFile(path) as file:
        meta = file.metadata
        if (
            meta.num_columns > MOST_COLUMNS
            or meta.num_rows * max(1, meta.num_columns) > _MOST_VALUES
        ):
            raise ReadError(
                f"{path}: the table is too large.",
                got=f"{meta.num_rows:,} rows, {meta.num_columns:,} columns",
            )
        _check_names(
            path, [n for n in file.schema_arrow.names if not n.startswith("__index_level_")]
        )
        frame: pd.DataFrame = file.read().to_pandas(integer_object_nulls=True)
    named = [n for n in frame.index.names if n is not None]
    frame = frame.reset_index() if named else frame.reset_index(drop=True)
    for name in frame.columns:
        if isinstance(frame[name].dtype, pd.CategoricalDtype):
            frame[name] = frame[name].astype(object)
    return frame.set_axis([str(c).strip() for c in frame.columns], axis=1)


def _text(
    path: Path,
    columns: Sequence[Column],
    rest: str,
    first: str | None,
    expected: str,
    *,
    header: bool,
    comment: str | None,
) -> pd.DataFrame:
    encoding, last = detect_encoding(path, expected)
    names, delimiter, start, used = read_header(path, encoding, expected, comment)
    names = [unescape_formula(name) for name in names]
    if not header:
        names, used = [str(i) for i in range(len(names))], start
    if last and last.count(delimiter) < len(names) - 1:
        raise ReadError(
            f"{path}: its last line is cut.",
            expected=f"{len(names)} fields, or an end of the line",
            got=last[-80:],
        )
    if first is not None and names and not names[0]:
        names[0] = first
    _check_names(path, names)
    frame = _rows(
        path,
        encoding,
        delimiter,
        used,
        [rest == "text" or is_alias(n, columns) or not n for n in names],
        comment,
    )
    nameless = [i for i, n in enumerate(names) if not n]
    for i in nameless:
        if i and (there := frame.iloc[:, i].fillna("") != "").any():
            raise InputError(
                f"{path}: column {i + 1} has values and no name.",
                got=f"{frame.iloc[:, i][there].iloc[0]!r}",
            )
    frame = frame.drop(columns=[str(i) for i in nameless]) if nameless else frame
    empty = (
        frame.iloc[:, 0].isna() | (frame.iloc[:, 0] == "") if frame.shape[1] else frame.index == -1
    )
    part = frame[empty]
    blank = part.index[(part.isna() | (part == "")).all(axis=1)]
    frame = frame.drop(index=blank) if len(blank) else frame
    frame.index.name = LINE
    return frame.set_axis([n for n in names if n], axis=1)


def _rows(
    path: Path, encoding: str, delimiter: str, used: int, text: list[bool], comment: str | None
) -> pd.DataFrame:
    """Rows below the header; columns are named 0, 1, 2 ..., rows by their lines."""
    import pandas as pd

    names = [str(i) for i in range(len(text))]
    with (
        guarded(path, "the table cannot be read."),
        open_text(path, encoding, comment) as stream,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter(
            "error", pd.errors.ParserWarning
        )  # fields beyond the head would be lost
        warnings.simplefilter("ignore", pd.errors.DtypeWarning)
        for _ in range(used):
            next(stream)
        try:
            frame = pd.read_csv(
                stream,
                sep=delimiter,
                header=None,
                names=names,
                index_col=False,
                dtype={n: str for n, is_text in zip(names, text, strict=True) if is_text},
                na_values={
                    n: list(MISSING_WORDS)
                    for n, is_text in zip(names, text, strict=True)
                    if not is_text
                },
                keep_default_na=False,
                skip_blank_lines=False,
                skipinitialspace=True,
            )
        except pd.errors.EmptyDataError:
            return pd.DataFrame({n: pd.Series(dtype=object) for n in names})
        except pd.errors.ParserWarning:
            raise _too_wide(path, f"a header of {len(text)}") from None
        except pd.errors.ParserError as error:
            raise _tokenising(path, str(error), used, len(text)) from None
    frame.index = pd.RangeIndex(used + 1, used + 1 + len(frame))
    return frame


def _tokenising(path: Path, message: str, used: int, width: int) -> ReadError:
    """Error for rows that pandas cannot split, with the line of the file."""
    if wide := re.search(r"in line (\d+), saw (\d+)", message):
        return _too_wide(path, f"{wide[2]} in line {int(wide[1]) + used}, and a header of {width}")
    if quote := re.search(r"EOF inside string starting at row (\d+)", message):
        line = int(quote[1]) + used + 1
        return ReadError(
            f"{path}: a quotation mark is never closed.", got=f'line {line} begins a field with "'
        )
    return ReadError(
        f"{path}: the table cannot be read.", got=message.strip().splitlines()[0][:200]
    )


def _too_wide(path: Path, got: str) -> ReadError:
    return ReadError(
        f"{path}: its rows have more fields than its header.",
        got=got,
        fix='put text that holds a comma into quotation marks: "HLA-DR,DP"',
    )


def _check_names(path: Path, names: Sequence[str]) -> None:
    if len(names) > MOST_COLUMNS:
        raise ReadError(
            f"{path}: the table has {len(names):,} columns.", expected=f"at most {MOST_COLUMNS:,}"
        )
    if twice := (
        [n for n in dict.fromkeys(names) if n and list(names).count(n) > 1]
        if len(set(names)) < len(names)
        else []
    ):
        raise InputError(f"{path}: columns are there twice.", got=format_list(twice))
    if odd := [n for n in names if any(unicodedata.category(c) == "Cc" for c in n)]:
        raise ReadError(
            f"{path}: names of columns hold control characters.",
            got=format_list([repr(n) for n in odd], 5),
        )
