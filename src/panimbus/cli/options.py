"""Arguments and options that several commands share, and how numbers, names and paths are parsed.

Imports nothing heavy.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from panimbus.model import DEFAULT_MODEL

TABLES = ("h5ad", "csv", "parquet", "spatialdata", "spatialdata+images")
Tta = StrEnum("Tta", ["full", "auto", "none"])
Precision = StrEnum("Precision", ["auto", "float32"])
Device = StrEnum("Device", ["auto", "cpu", "cuda", "mps"])
MapsFormat = StrEnum("MapsFormat", ["tiff", "zarr"])
MapsGrid = StrEnum("MapsGrid", ["model", "image"])
Layout = StrEnum("Layout", ["panimbus", "ark", "scimap"])
OnError = StrEnum("OnError", ["raise", "skip"])
Stage = StrEnum("Stage", ["all", "scan"])
By = StrEnum("By", ["types", "clusters"])
Platform = StrEnum(
    "Platform", ["random", "codex", "mibi", "imc", "cycif", "opal", "melc", "phenocycler"]
)
Collection = StrEnum("Collection", ["pan-m-gold", "pan-m", "nimbus-weights"])

_UNIT = re.compile(r"([-+]?[0-9.,eE+-]*[0-9.])\s*([^\d\s.,].*)")


def number(
    text: str, expected: str = "a number", *, above: float | None = None, least: float | None = None
) -> float:
    """Parse a number of the command line.

    Parameters
    ----------
    text
        As typed; a decimal comma or a unit is an error.
    expected
        Description of the expected value, for the message.
    above, least
        Exclusive and inclusive lower limits.

    Raises
    ------
    typer.BadParameter
        Says what was expected and what was probably meant.

    Examples
    --------
    >>> number("0.5", above=0)
    0.5
    """
    value = _float(text)
    if value is None:
        raise _bad(f"{text!r} is not a number.", f"{expected}{_suggestion(text)}")
    if not math.isfinite(value):
        raise _bad(f"{text} cannot be used.", expected)
    if (above is not None and value <= above) or (least is not None and value < least):
        raise _bad(
            f"{text} is not {f'above {above:g}' if above is not None else f'at least {least:g}'}.",
            expected,
        )
    return value


def whole(
    text: str, expected: str = "a whole number", *, least: int = 0, most: int = 2**31 - 1
) -> int:
    """Parse a whole number of the command line between ``least`` and ``most``.

    Examples
    --------
    >>> whole("8", least=1), whole(" 1_000 ")
    (8, 1000)
    """
    try:
        value = int(text)
    except ValueError:
        raise _bad(f"{text!r} is not a whole number.", expected) from None
    if not least <= value <= most:
        raise _bad(f"{text} is not between {least} and {most:,}.", expected)
    return value


def _bad(problem: str, expected: str) -> typer.BadParameter:
    return typer.BadParameter(f"{problem}\n  expected:  {expected}")


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _suggestion(text: str) -> str:
    """How to write a number that was given with a decimal comma or a unit."""
    bare = text.strip()
    if (match := _UNIT.fullmatch(bare)) and _float(match[1].replace(",", ".")) is not None:
        return f", without a unit, such as {match[1].replace(',', '.')}"
    return (
        f", with a point, such as {bare.replace(',', '.')}"
        if _float(bare.replace(",", ".")) is not None
        else ""
    )


def names_in(option: str | None) -> list[str] | None:
    """Names of a comma-separated option, see `split_names`; None if it was not given.

    Examples
    --------
    >>> names_in(" CD3, CD20,,"), names_in(None)
    (['CD3', 'CD20'], None)
    """
    from panimbus.core.naming import split_names

    return None if option is None else split_names(option)


def path(text: str) -> Path:
    """Parse a path; ``~`` is the home folder, and quotes around it are removed."""
    return Path(word(str(text)))


def word(text: str) -> str:
    """Parse a path or an address like `path`, as text."""
    from panimbus.io.location import clean_path

    return clean_path(str(text))


def value(choice: StrEnum | None) -> str | None:
    """A choice as plain text; None if it was not given."""
    return None if choice is None else str(choice)


def _above_zero(expected: str) -> Callable[[str], float]:
    return lambda text: number(text, expected, above=0)


def _at_least_zero(expected: str) -> Callable[[str], float]:
    return lambda text: number(text, expected, least=0)


def _count(expected: str, least: int = 0) -> Callable[[str], int]:
    return lambda text: whole(text, expected, least=least)


def models(incomplete: str) -> list[str]:
    """Shell completion: names of models."""
    shipped = (Path(__file__).parent.parent / "model" / "shipped").glob("*.onnx")
    return [
        name for name in (*sorted(p.stem for p in shipped), "nimbus") if name.startswith(incomplete)
    ]


def complete_presets(incomplete: str) -> list[str]:
    """Shell completion: names of training presets."""
    shipped = (Path(__file__).parent.parent / "train" / "presets").glob("*.toml")
    return [name for name in sorted(p.stem for p in shipped) if name.startswith(incomplete)]


def tables(incomplete: str) -> list[str]:
    """Shell completion: kinds of tables that are not in the list yet."""
    before, comma, last = incomplete.rpartition(",")
    return [
        f"{before}{comma}{kind}"
        for kind in TABLES
        if kind.startswith(last) and kind not in before.split(",")
    ]


def folder(name: str, text: str) -> Any:
    """An option that takes a folder."""
    return typer.Option(name, parser=path, metavar="FOLDER", help=text)


def file(name: str, text: str, metavar: str = "FILE") -> Any:
    """An option that takes a file."""
    return typer.Option(name, parser=path, metavar=metavar, help=text)


def location(name: str, text: str, metavar: str = "PATH") -> Any:
    """An option that takes a path or an address."""
    return typer.Option(name, parser=word, metavar=metavar, help=text)


def choice(name: str, text: str) -> Any:
    """An option that takes one of a few words, in any case."""
    return typer.Option(name, case_sensitive=False, help=text)


def positive(name: str, text: str, expected: str) -> Any:
    """An option that takes a number above 0."""
    return typer.Option(name, parser=_above_zero(expected), metavar="NUMBER", help=text)


def not_negative(name: str, text: str, expected: str) -> Any:
    """An option that takes a number of at least 0."""
    return typer.Option(name, parser=_at_least_zero(expected), metavar="NUMBER", help=text)


def count(name: str, text: str, expected: str, least: int = 0) -> Any:
    """An option that takes a whole number."""
    return typer.Option(name, parser=_count(expected, least), metavar="NUMBER", help=text)


def files_argument(metavar: str, text: str) -> Any:
    """An argument that takes a file, or several."""
    return typer.Argument(parser=path, metavar=metavar, help=text)


MPP = "micrometres per pixel, above 0"
_AREA = "an area in µm², at least 0"

Images = Annotated[
    list[str],
    typer.Argument(
        parser=word,
        metavar="IMAGES",
        help=(
            "Images: files or folders (TIFF, OME-TIFF, QPTIFF, OME-Zarr, SpatialData, IMC), or"
            " https:// and s3:// addresses (Zarr)."
        ),
    ),
]
Labels = Annotated[
    list[str] | None,
    location("--labels", "Label images: a file, or a folder whose files are matched by name."),
]
Results = Annotated[Path, files_argument("RESULTS", "The --out folder of `panimbus predict`.")]
Types = Annotated[
    Path | None,
    folder(
        "--types",
        "The --out folder of `panimbus phenotype run`. [default: types_edited or types in RESULTS,"
        " if there]",
    ),
]
MovedImages = Annotated[
    list[str] | None,
    location("--images", "Where the images are now, if they were moved after scoring."),
]


def check_moved(images: list[str] | None, labels: list[str] | None) -> None:
    """Refuse moved label images without their images."""
    if labels and not images:
        from panimbus.core.errors import InputError

        raise InputError("--labels needs --images.", fix="pass both, where they are now")


Pairs = Annotated[
    Path | None,
    file(
        "--pairs",
        "Instead of --labels, if the names do not match: CSV with the columns image,labels."
        " `panimbus inspect --print-pairs` writes a draft.",
    ),
]
Channels = Annotated[
    str | None,
    typer.Option("--channels", metavar="NAMES", help="Channels, comma-separated. [default: all]"),
]
ChannelNames = Annotated[
    Path | None,
    file(
        "--channel-names",
        "Text or CSV file with the channel names, for images that do not store them.",
    ),
]
Mpp = Annotated[
    float | None,
    positive("--mpp", "Micrometres per pixel, if missing or wrong in the files.", MPP),
]
ChannelTypes = Annotated[
    str | None,
    location(
        "--channel-types",
        "Types of channels: DNA1=counterstain,Blank1=blank (or autofluorescence, isotype), or a CSV"
        " file (channel,type).",
        "TEXT|FILE",
    ),
]
DarkLevel = Annotated[
    float | None,
    not_negative(
        "--dark-level",
        "Camera offset to subtract from every pixel. `panimbus inspect` estimates it.",
        "an intensity, at least 0",
    ),
]
Batches = Annotated[
    str | None,
    location(
        "--batches",
        "Batch (staining day, slide, patient) of each FOV: fov1=day1,fov2=day2; a CSV file"
        " (fov,batch); or a regular expression with one group: '^(day[0-9]+)_'.",
        "TEXT|FILE",
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
            "Model: a name (see `panimbus models`) or a model file."
            f" [default: {DEFAULT_MODEL}, which comes with panimbus]"
        ),
    ),
]
Views = Annotated[
    Tta | None,
    choice(
        "--tta",
        "Test-time augmentation: full (8 views), auto (as many as needed) or none."
        " [default: set by the model]",
    ),
]
Seed = Annotated[int, count("--seed", "Random seed.", "a whole number")]
Normaliser = Annotated[
    Path | None,
    file("--normaliser", "normaliser.json of an earlier run on the same dataset, used unchanged."),
]
MinArea = Annotated[
    float | None,
    not_negative(
        "--min-area", "Smallest cell area in µm²; smaller objects are slivers. [default: 5]", _AREA
    ),
]
MaxArea = Annotated[
    float | None,
    positive(
        "--max-area",
        "Largest cell area in µm²; larger objects are marked. [default: 1000, or 10 times the"
        " median]",
        _AREA,
    ),
]
AllowOddLabels = Annotated[
    bool,
    typer.Option(
        "--allow-odd-labels",
        help="Warn instead of stopping if the objects of a label image cannot be cells.",
    ),
]
Threads = Annotated[
    int,
    count(
        "--threads",
        "Number of CPU threads; 0 uses all cores.",
        "the number of CPU threads, 0 for all cores",
    ),
]
Tile = Annotated[
    int | None,
    count(
        "--tile",
        "Longest side of a tile in model pixels. [default: set by the model]",
        "the longest side of a tile in model pixels",
        1,
    ),
]
Thresholds = Annotated[
    str | None,
    typer.Option(
        "--thresholds",
        metavar="TEXT|FILE",
        help=(
            "Score from which each marker is positive: CD20=0.7,CD4=0.6, or a CSV file"
            " (marker,threshold). [default: set by the model]"
        ),
    ),
]
Tables = Annotated[
    str,
    typer.Option(
        "--tables",
        metavar="KINDS",
        autocompletion=tables,
        help=f"Tables to write, comma-separated: {', '.join(TABLES)}.",
    ),
]
Out = Annotated[Path, folder("--out", "Folder for the results.")]
Columns = Annotated[
    Layout,
    choice("--columns", "Column names of the CSV and Parquet tables; ark and scimap use pixels."),
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Replace the results of another run in --out; unchanged parts are not computed again.",
    ),
]
