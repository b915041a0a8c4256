"""Arguments and options that several verbs share, their choices, and how numbers and names are
read. Imports nothing heavy.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

TABLES = ("h5ad", "csv", "parquet", "spatialdata", "spatialdata+images")


class Tta(StrEnum):
    """Test-time views."""

    FULL = "full"
    AUTO = "auto"
    NONE = "none"


class Precision(StrEnum):
    """Arithmetic of the net."""

    AUTO = "auto"
    FLOAT32 = "float32"


class Device(StrEnum):
    """What runs the net."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    MPS = "mps"


class MapsFormat(StrEnum):
    """Format of score maps."""

    TIFF = "tiff"
    ZARR = "zarr"


class MapsGrid(StrEnum):
    """Grid of score maps."""

    MODEL = "model"
    IMAGE = "image"


class Layout(StrEnum):
    """Names of the columns of plain tables."""

    PANIMBUS = "panimbus"
    ARK = "ark"
    SCIMAP = "scimap"


class OnError(StrEnum):
    """What is done about pixels that cannot be read."""

    RAISE = "raise"
    SKIP = "skip"


class Stage(StrEnum):
    """How far a share goes."""

    ALL = "all"
    SCAN = "scan"


class By(StrEnum):
    """What gives a cell its type."""

    TYPES = "types"
    CLUSTERS = "clusters"


class Platform(StrEnum):
    """What simulated tissue looks like."""

    RANDOM = "random"
    CODEX = "codex"
    MIBI = "mibi"
    IMC = "imc"


class Collection(StrEnum):
    """What can be fetched."""

    GOLD = "pan-m-gold"
    ALL = "pan-m"
    WEIGHTS = "nimbus-weights"


# -- how values are read
# ---------------------------------------------------------------------------------------------------------

_UNIT = re.compile(r"([-+]?[0-9.,eE+-]*[0-9.])\s*([^\d\s.,].*)")


def number(
    text: str, what: str = "a number", *, above: float | None = None, least: float | None = None
) -> float:
    """A number of the command line, with a point and without a unit.

    Parameters
    ----------
    text
        What was typed.
    what
        What is expected, in words.
    above, least
        It must be greater than ``above``, and at least ``least``.

    Raises
    ------
    typer.BadParameter
        That says what was expected, and what may have been meant.

    Examples
    --------
    >>> number("0.5", above=0)
    0.5
    """
    value = _float(text)
    if value is None:
        raise _wrong(f"{text!r} is not a number.", f"{what}{_meant(text)}")
    if not math.isfinite(value):
        raise _wrong(f"{text} cannot be used.", what)
    if (above is not None and value <= above) or (least is not None and value < least):
        raise _wrong(
            f"{text} is not {f'above {above:g}' if above is not None else f'at least {least:g}'}.",
            what,
        )
    return value


def whole(text: str, what: str = "a whole number", *, least: int = 0, most: int = 2**31 - 1) -> int:
    """A whole number of the command line, likewise.

    Examples
    --------
    >>> whole("8", least=1), whole(" 1_000 ")
    (8, 1000)
    """
    try:
        value = int(text)
    except ValueError:
        raise _wrong(f"{text!r} is not a whole number.", what) from None
    if not least <= value <= most:
        raise _wrong(f"{text} is not between {least} and {most:,}.", what)
    return value


def _wrong(what: str, expected: str) -> typer.BadParameter:
    return typer.BadParameter(f"{what}\n  expected:  {expected}")


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _meant(text: str) -> str:
    """What a number with a decimal comma or a unit was meant to be."""
    bare = text.strip()
    if (match := _UNIT.fullmatch(bare)) and _float(match[1].replace(",", ".")) is not None:
        return f", without a unit, such as {match[1].replace(',', '.')}"
    return (
        f", with a point, such as {bare.replace(',', '.')}"
        if _float(bare.replace(",", ".")) is not None
        else ""
    )


def names_in(option: str | None) -> list[str] | None:
    """The names of a comma-separated option, see `split_names`; None if it was not given.

    Examples
    --------
    >>> names_in(" CD3, CD20,,"), names_in(None)
    (['CD3', 'CD20'], None)
    """
    from panimbus.core.naming import split_names

    return None if option is None else split_names(option)


def path(text: str) -> Path:
    """A path of the command line.

    The home folder for ``~``, and without quotes that the shell has left.
    """
    from panimbus.io.place import clean_path

    return Path(clean_path(str(text)))


def word(text: str) -> str:
    """A path or an address of the command line, likewise, as text."""
    from panimbus.io.place import clean_path

    return clean_path(str(text))


def positive(what: str) -> Callable[[str], float]:
    """A parser of numbers above 0."""
    return lambda text: number(text, what, above=0)


def _least(what: str) -> Callable[[str], float]:
    return lambda text: number(text, what, least=0)


def _count(what: str, least: int = 0) -> Callable[[str], int]:
    return lambda text: whole(text, what, least=least)


def value(choice: StrEnum | None) -> str | None:
    """A choice as plain text; None if it was not given."""
    return None if choice is None else str(choice)


# -- what a shell proposes
# -------------------------------------------------------------------------------------------------------


def models(incomplete: str) -> list[str]:
    """Names of models that begin so."""
    shipped = (Path(__file__).parent.parent / "model" / "shipped").glob("*.onnx")
    return [
        name for name in (*sorted(p.stem for p in shipped), "nimbus") if name.startswith(incomplete)
    ]


def presets(incomplete: str) -> list[str]:
    """Names of training presets that begin so."""
    shipped = (Path(__file__).parent.parent / "train" / "presets").glob("*.toml")
    return [name for name in sorted(p.stem for p in shipped) if name.startswith(incomplete)]


def tables(incomplete: str) -> list[str]:
    """Kinds of tables, after those that are there already."""
    before, comma, last = incomplete.rpartition(",")
    return [
        f"{before}{comma}{kind}"
        for kind in TABLES
        if kind.startswith(last) and kind not in before.split(",")
    ]


# -- arguments and options
# -------------------------------------------------------------------------------------------------------

_MPP = "micrometres per pixel, above 0"
_AREA = "an area in µm², at least 0"

Images = Annotated[
    list[str],
    typer.Argument(
        parser=word,
        metavar="IMAGES",
        help=(
            "Images: files or folders (TIFF, OME-TIFF, QPTIFF, OME-Zarr, SpatialData, IMC),"
            " https:// or s3:// (Zarr)."
        ),
    ),
]
Labels = Annotated[
    list[str] | None,
    typer.Option(
        "--labels",
        parser=word,
        metavar="PATH",
        help="Label images: a file, or a folder matched by name.",
    ),
]
Pairs = Annotated[
    Path | None,
    typer.Option(
        "--pairs",
        parser=path,
        metavar="FILE",
        help=(
            "Instead of --labels where names do not pair: CSV with the columns image,labels."
            " `panimbus inspect --print-pairs` writes one."
        ),
    ),
]
Channels = Annotated[
    str | None,
    typer.Option("--channels", metavar="NAMES", help="Channels, comma-separated. [default: all]"),
]
ChannelNames = Annotated[
    Path | None,
    typer.Option(
        "--channel-names",
        parser=path,
        metavar="FILE",
        help="Text or CSV file of channel names, for images that do not name theirs.",
    ),
]
Mpp = Annotated[
    float | None,
    typer.Option(
        "--mpp",
        parser=positive(_MPP),
        metavar="NUMBER",
        help="Micrometres per pixel, if the files do not say or are wrong.",
    ),
]
ChannelTypes = Annotated[
    str | None,
    typer.Option(
        "--channel-types",
        parser=word,
        metavar="TEXT|FILE",
        help=(
            "What channels are: DNA1=counterstain,Blank1=blank (autofluorescence, isotype), or a"
            " CSV (channel,type)."
        ),
    ),
]
DarkLevel = Annotated[
    float | None,
    typer.Option(
        "--dark-level",
        parser=_least("an intensity, at least 0"),
        metavar="NUMBER",
        help="What the camera adds to every pixel; it is subtracted. `panimbus inspect` tells.",
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        parser=word,
        metavar="NAME|FILE",
        autocompletion=models,
        help=(
            "Name of a model (see `panimbus models`) or path of a model file. [default: the newest]"
        ),
    ),
]
Views = Annotated[
    Tta | None,
    typer.Option(
        "--tta",
        case_sensitive=False,
        help="Test-time views: full (8), auto (as many as needed), none. [default: the model's]",
    ),
]
Seed = Annotated[
    int,
    typer.Option(
        "--seed",
        parser=_count("a whole number"),
        metavar="NUMBER",
        help="Of what is random: the same seed gives the same result.",
    ),
]
Normaliser = Annotated[
    Path | None,
    typer.Option(
        "--normaliser",
        parser=path,
        metavar="FILE",
        help="normaliser.json of an earlier run on the same dataset, used as it is.",
    ),
]
MinArea = Annotated[
    float | None,
    typer.Option(
        "--min-area",
        parser=_least(_AREA),
        metavar="NUMBER",
        help="Smallest area of a cell, in µm²; smaller objects are slivers. [default: 5]",
    ),
]
MaxArea = Annotated[
    float | None,
    typer.Option(
        "--max-area",
        parser=positive(_AREA),
        metavar="NUMBER",
        help=(
            "Largest area of a cell, in µm²; larger objects are marked. [default: 1000, or 10 times"
            " the median]"
        ),
    ),
]
AllowOddLabels = Annotated[
    bool,
    typer.Option(
        "--allow-odd-labels",
        help="Go on, with a warning, where the objects of a label image cannot be cells.",
    ),
]
Threads = Annotated[
    int,
    typer.Option(
        "--threads",
        parser=_count("the number of CPU threads, 0 for all cores"),
        metavar="NUMBER",
        help="CPU threads; 0 takes all cores.",
    ),
]
Tile = Annotated[
    int | None,
    typer.Option(
        "--tile",
        parser=_count("the longest side of a tile in model pixels", 1),
        metavar="NUMBER",
        help="Longest side of a tile, in model pixels. [default: the model's]",
    ),
]
Tables = Annotated[
    str,
    typer.Option(
        "--tables",
        metavar="KINDS",
        autocompletion=tables,
        help=f"Which tables to write, comma-separated: {', '.join(TABLES)}.",
    ),
]
Out = Annotated[
    Path, typer.Option("--out", parser=path, metavar="FOLDER", help="Folder for the results.")
]
Columns = Annotated[
    Layout,
    typer.Option(
        "--columns",
        case_sensitive=False,
        help="Names of the columns of plain tables: ark and scimap are in pixels.",
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Replace the results of another run in --out; what is the same is not computed again.",
    ),
]
