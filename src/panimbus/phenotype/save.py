"""Write and read the folder of a run."""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from panimbus.core.errors import InputError, ReadError, format_list, need_extra
from panimbus.core.guard import guarded
from panimbus.core.layouts import check_layout
from panimbus.core.table import CELL_TYPE, CLUSTERING, FOV, NOT_TYPED, UNASSIGNED
from panimbus.io.documents import read_json
from panimbus.io.files import atomic_path, remove_path, write_text
from panimbus.io.location import parse_location
from panimbus.io.mantis import write_mantis
from panimbus.io.names import fingerprint, safe_names
from panimbus.io.scores import read_h5ad
from panimbus.io.segmented import Segmented, check_cells, find_label_images, pixel_sizes
from panimbus.io.write_table import write_csv
from panimbus.phenotype.corrections import corrections_of
from panimbus.phenotype.output import mantis_frames, write_fov, write_run, write_type_tables
from panimbus.phenotype.summary import Summary, summarise

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger(__name__)
_OUTPUTS = re.compile(
    r"(labels/[\w.-]+\.ome\.tiff|qupath/[\w.-]+\.geojson|report\.html|files\.csv|types\.zarr)"
    r"|type_annotations\.csv|figures/[^/\\]+\.png|mantis/(populations\.csv|segment_features\.csv|[^/\\]+/(cell_segmentation|markers/[^/\\]+)\.tiff)",
    re.ASCII,
)
ANNOTATED = "type_annotations.csv"
PICTURES = 12
"""FOVs that the report shows; all are written as label images."""


@dataclass(frozen=True)
class OutputOptions:
    """Outputs of a run besides its tables.

    Parameters
    ----------
    labels, images
        Label images of the FOVs, and the images (for polygons and Mantis Viewer's channels): files
        or folders.
    mantis, spatialdata
        A Mantis Viewer project; ``types.zarr``. Both need labels.
    report
        ``report.html`` and ``figures/``; None is True.
    umap
        A UMAP among the figures.
    pairs
        Instead of ``labels``: a file of pairs (`panimbus.io.label_matching`).
    columns
        Names of the columns of ``types.csv`` and ``positive.csv`` (`panimbus.core.layouts`).
    with_images
        Whether the images are copied into ``types.zarr``.
    request
        What the results depend on, by which a later run knows whether it is the same
        (`panimbus.infer.record`).
    """

    labels: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    mantis: bool = False
    spatialdata: bool = False
    report: bool | None = None
    umap: bool = False
    about: dict[str, str] = field(default_factory=dict)
    pairs: str | None = None
    columns: str = "panimbus"
    with_images: bool = False
    request: dict[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """Check the combination of options before anything is computed."""
        if self.labels and self.pairs is not None:
            raise InputError(
                "--labels and --pairs do not go together.", fix="pass only one of them"
            )
        if (self.mantis or self.spatialdata or self.images) and not (self.labels or self.pairs):
            raise InputError(
                "Pictures of cells need the label images.", fix="pass --labels (or --pairs)"
            )
        if self.with_images and not ((self.images or self.pairs) and self.spatialdata):
            raise InputError(
                "Images can be copied into a SpatialData store only.",
                fix="pass --images and --spatialdata, too",
            )
        if self.umap:
            need_extra("A UMAP", "umap", "umap")


def find_segmented(table: AnnData, wanted: OutputOptions) -> list[Segmented]:
    """Find the label images and check them against the table, before anything is computed."""
    wanted.check()
    segmented = []
    if wanted.labels or wanted.pairs:
        labels, images = (
            [parse_location(p) for p in paths] for paths in (wanted.labels, wanted.images)
        )
        segmented = find_label_images(table, labels, images, pairs=wanted.pairs)
    for one in segmented:
        check_cells(table, one)
    check_layout(wanted.columns, list(map(str, table.var_names)), _pixel_sizes(table, segmented))
    return segmented


def _pixel_sizes(table: AnnData, segmented: Sequence[Segmented]) -> dict[str, float | None]:
    fovs = dict.fromkeys(table.obs[FOV].astype(str))
    return fovs | pixel_sizes(table) | {one.fov_id: one.mpp for one in segmented if one.mpp}


def save(
    table: AnnData, out: Path, segmented: Sequence[Segmented], wanted: OutputOptions
) -> Summary:
    """Write everything; each file is there whole or not at all.

    Files that only an earlier run wrote are removed; files that no run wrote are never touched.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file.", expected="a folder, new or of an earlier run")
    import pandas as pd

    out.mkdir(parents=True, exist_ok=True)
    before, now = _extras(out), _names(segmented, wanted)
    summary = summarise(table)
    for warning in (*summary.warnings, *summary.batch.warnings):
        logger.warning("%s", warning)
    write_type_tables(
        table, summary, out, layout=wanted.columns, mpp=_pixel_sizes(table, segmented)
    )
    names = safe_names([one.fov_id for one in segmented])
    for one in segmented:
        write_fov(table, summary, one, out, names[one.fov_id])
    annotated = corrections_of(table)
    if len(annotated):
        write_csv(out / ANNOTATED, annotated)
        now |= {ANNOTATED}
    if segmented:
        files = [[f, f"labels/{n}.ome.tiff", f"qupath/{n}.geojson"] for f, n in names.items()]
        write_csv(out / "files.csv", pd.DataFrame(files, columns=["fov", "labels", "qupath"]))
    if wanted.mantis:
        now |= _write_folder(
            out, "mantis", before, lambda to: write_mantis(to, segmented, *mantis_frames(table))
        )
    if wanted.spatialdata:
        from panimbus.io.spatialdata_writer import write_spatialdata

        images = (
            [one.image for one in segmented if one.image is not None] if wanted.with_images else []
        )
        write_spatialdata(out / "types.zarr", table, segmented, images)
    if wanted.report is not False:
        now |= _report(table, summary, out, segmented, wanted, before)
    asked = {k: v for k, v in vars(wanted).items() if k not in ("about", "request")}
    write_run(
        table,
        out,
        {"asked": asked, **wanted.about, "request": wanted.request, "extras": sorted(now)},
    )
    gone = [name for name in sorted(before - now) if _remove(out, name)]
    if gone:
        logger.warning(
            "%s: removed, because only an earlier run wrote it: %s", out, format_list(gone, 10)
        )
    return summary


def _names(segmented: Sequence[Segmented], wanted: OutputOptions) -> set[str]:
    """Files of a run besides its tables, except those of Mantis Viewer and the report."""
    names = safe_names([one.fov_id for one in segmented]).values()
    out = {f"labels/{n}.ome.tiff" for n in names} | {f"qupath/{n}.geojson" for n in names}
    return (
        out
        | ({"files.csv"} if segmented else set())
        | ({"types.zarr"} if wanted.spatialdata else set())
    )


def _extras(out: Path) -> set[str]:
    """Files that the previous run lists, as far as a run may write them.

    Nothing else is ever removed.
    """
    try:
        data = read_json(out / "run.json")
    except ReadError:
        return set()
    names = data.get("extras") if isinstance(data, dict) else None
    written = set(map(str, names)) if isinstance(names, list) else set()
    return {name for name in written if _OUTPUTS.fullmatch(name) and ".." not in name.split("/")}


def _write_folder(
    out: Path, name: str, before: Collection[str], write: Callable[[Path], None]
) -> set[str]:
    """Write a folder atomically, keep files in it that no run wrote; names of the files written."""
    old = out / name
    with atomic_path(old) as folder:
        write(folder)
        written = {
            f"{name}/{path.relative_to(folder).as_posix()}"
            for path in folder.rglob("*")
            if path.is_file()
        }
        for path in old.rglob("*") if old.is_dir() else ():
            label = path.relative_to(out).as_posix()
            if (
                (path.is_symlink() or path.is_file())
                and label not in written
                and label not in before
            ):
                to = folder / path.relative_to(old)
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, to, follow_symlinks=False)
    return written


def _remove(out: Path, name: str) -> bool:
    """Remove a file or store and emptied folders, nothing behind a link; whether it existed."""
    path = out / name
    if not os.path.lexists(path) or not path.parent.resolve().is_relative_to(out.resolve()):
        return False
    remove_path(path)
    for folder in path.relative_to(out).parents:
        if folder.name and not any((out / folder).iterdir()):
            (out / folder).rmdir()
    return True


def _report(
    table: AnnData,
    summary: Summary,
    out: Path,
    segmented: Sequence[Segmented],
    wanted: OutputOptions,
    before: Collection[str],
) -> set[str]:
    from panimbus.phenotype.figures import overview, umap
    from panimbus.phenotype.pictures import tissue
    from panimbus.phenotype.report import html_report
    from panimbus.render.charts import png_chart

    markers = [str(m) for m in table.uns[CLUSTERING]["markers"]]
    pictures = overview(summary, markers)
    if wanted.umap:
        pictures["UMAP (an impression, not a measurement)"] = png_chart(umap(table, markers))
    types = table.obs[CELL_TYPE].astype(str).to_numpy()
    for one in segmented[:PICTURES]:
        rows, ids = check_cells(table, one)
        pictures[f"FOV {one.fov_id}"] = png_chart(tissue(one, ids, types[rows].tolist(), summary))
    written = _write_folder(out, "figures", before, lambda to: _write_figures(to, pictures))
    write_text(out / "report.html", html_report(table, summary, pictures, wanted.about))
    return written | {"report.html"}


def _write_figures(folder: Path, pictures: Mapping[str, bytes]) -> None:
    folder.mkdir()
    written: set[str] = set()
    for title, data in pictures.items():
        name = "".join(
            c if c.isalnum() or c in "-_." else "_" for c in title.split(" (")[0]
        ).lower()[:60]
        name = name if name not in written else f"{name}-{fingerprint(title, 3)}"
        written.add(name)
        (folder / f"{name}.png").write_bytes(data)


def edited_folder(folder: Path) -> Path:
    """Folder for `phenotype apply`: next to the first result, or that of an edited result."""
    about = (
        read_json(folder / "run.json", "run.json of `panimbus phenotype run`")
        if (folder / "run.json").is_file()
        else {}
    )
    if isinstance(about, dict) and "edits file" in about:
        return folder
    out = folder.resolve().with_name(f"{folder.resolve().name}_edited")
    if out.is_dir() and any(out.iterdir()) and not (out / "run.json").is_file():
        raise InputError(
            f"{out}: the folder holds something else.", fix="pass --out with another folder"
        )
    return folder.parent / out.name if folder.name not in ("", "..") else out


def open_run(folder: Path) -> tuple[AnnData, OutputOptions]:
    """Table and options of an earlier run."""
    expected = "what `panimbus phenotype run` wrote"
    if lost := [name for name in ("run.json", "types.h5ad") if not (folder / name).is_file()]:
        raise ReadError(
            f"{folder}: not a folder that `panimbus phenotype run` wrote.",
            expected="run.json and types.h5ad",
            got=f"no {format_list(lost)}",
        )
    with guarded(folder / "run.json", "the file is not what `panimbus phenotype run` wrote."):
        data = read_json(folder / "run.json", expected)
        asked = data["asked"]
        wanted = OutputOptions(
            tuple(asked["labels"]), tuple(asked["images"]), asked["mantis"], asked["spatialdata"],
            asked["report"], asked["umap"], pairs=asked.get("pairs"),
            columns=asked.get("columns", "panimbus"),
            with_images=asked.get("with_images", False),
            request=dict(data.get("request", {})),
        )  # fmt: skip
    return read_h5ad(folder / "types.h5ad", expected), wanted


def text_summary(summary: Summary, out: Path) -> str:
    """Summary for the terminal."""
    width = max(len(n) for n in summary.types[CELL_TYPE])
    lines = [
        f"  {row[CELL_TYPE]:<{width}}  {row['cells']:>9,}  {row['percent']:5.1f} %"
        for row in summary.types.to_dict("records")
        if row[CELL_TYPE] not in (UNASSIGNED, NOT_TYPED)
    ]
    if summary.cannot_tell:
        names = format_list(summary.cannot_tell, len(summary.cannot_tell))
        lines.append(f"this panel cannot tell: {names} (why: run.json)")
    return "\n".join([summary.shares.sentence() + ":", *lines, f"written: {out}"])
