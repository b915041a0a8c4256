"""Description of a dataset's images, shared by the files of `panimbus build` and `evaluate`."""

from __future__ import annotations

import glob
import re
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, Field

from panimbus.core.errors import InputError, MatchError, format_list
from panimbus.core.fov import Fov
from panimbus.io.attach import attach_labels
from panimbus.io.documents import Strict
from panimbus.io.fovs import open_fovs
from panimbus.io.location import resolve_path


def _not_empty(value: Any) -> Any:
    if value == "":
        msg = "an empty path"
        raise ValueError(msg)
    return value


Text = Annotated[str, Field(min_length=1)]
File = Annotated[Path, BeforeValidator(_not_empty)]
Files = File | Annotated[tuple[File, ...], Field(min_length=1)] | dict[str, File]
Model = TypeVar("Model", bound=BaseModel)
_FIELD = re.compile(r"\{(fov|\d+)\}")


class DatasetImages(Strict):
    """Images and label images of a dataset.

    Parameters
    ----------
    name, tissue
    images, labels
        A path, several, or a table FOV -> path. All images count for the normaliser; only FOVs with
        a label image are labelled or scored. A path of ``labels`` may hold the FOV's name as
        ``{fov}`` and the parts of that name between underscores as ``{1}``, ``{2}`` and on:
        ``masks/{1}/*{2}*_labeled.ome.tif``.
    mpp
        Micrometres per pixel, instead of what the files say.
    channel_names
        Names of the planes, or a file of them; as for `panimbus.io.open_fovs`.
    rename
        Name of a FOV among the images -> its name among label images and annotations.
    fovs
        Only these FOVs get label images; default: all.
    """

    name: Text
    tissue: str = ""
    images: Files
    labels: Files | None = None
    mpp: Annotated[float, Field(gt=0)] | None = None
    channel_names: File | Annotated[tuple[Text, ...], Field(min_length=1)] | None = None
    rename: dict[str, str] = Field(default_factory=dict)
    fovs: tuple[str, ...] | None = None

    def open(self, *, all_labelled: bool = False) -> list[Fov]:
        """Open the FOVs; only metadata is read.

        Parameters
        ----------
        all_labelled
            Refuse FOVs without a label image, unless ``fovs`` names those that need one.

        Raises
        ------
        InputError
            If FOVs are named that do not exist, or that have no label image.
        """
        images, labels = (
            list(p) if isinstance(p, tuple) else p for p in (self.images, self.labels)
        )
        names = self.channel_names
        channel_names: Any = list(names) if isinstance(names, tuple) else names
        pattern = labels if isinstance(labels, Path) and is_pattern(labels) else None
        whole = all_labelled and self.fovs is None
        strict = labels if whole and not self.rename and pattern is None else None
        fovs = open_fovs(images or [], strict, mpp=self.mpp, channel_names=channel_names)
        if strict is not None:
            return fovs
        self._check("rename", self.rename, fovs)
        # a label image inside an image file serves where no label images are named
        kept = fovs if self.fovs is None else [f.with_(labels=None) for f in fovs]
        renamed = [f.with_(fov_id=self.rename.get(f.fov_id, f.fov_id)) for f in kept]
        self._check("fovs", self.fovs or (), renamed)
        if pattern is not None:
            wanted = [f.fov_id for f in renamed if self.fovs is None or f.fov_id in self.fovs]
            labels = find_by_pattern(pattern, wanted)
            if whole and (bare := [fov for fov in wanted if fov not in labels]):
                raise MatchError(
                    f"Dataset {self.name!r}: {len(bare)} of {len(wanted)} FOVs have no label"
                    " image.",
                    expected=str(pattern),
                    got=format_list(bare),
                    fix="name the FOVs that have one: fovs = [...]",
                )
        labelled = renamed if labels is None else attach_labels(renamed, labels)
        if self.fovs is None:
            return labelled
        if bare := [f.fov_id for f in labelled if f.fov_id in self.fovs and f.labels is None]:
            raise InputError(
                f"Dataset {self.name!r}: FOVs have no label image.", got=format_list(bare)
            )
        return [f if f.fov_id in self.fovs else f.with_(labels=None) for f in labelled]

    def _check(self, key: str, named: Any, fovs: list[Fov]) -> None:
        ids = [f.fov_id for f in fovs]
        if unknown := [n for n in named if n not in ids]:
            raise InputError(
                f"Dataset {self.name!r}: {key} names FOVs that are not there.",
                got=format_list(unknown),
                available=ids,
            )


def is_pattern(path: Path) -> bool:
    """Whether a path holds the name of a FOV, or parts of it."""
    return _FIELD.search(str(path)) is not None


def find_by_pattern(pattern: Path, fov_ids: list[str]) -> dict[str, Path]:
    """FOV -> its label image, for those that have one.

    Parameters
    ----------
    pattern
        See `DatasetImages`; ``*`` and ``**`` stand for anything, as in `pathlib.Path.glob`.
    fov_ids

    Raises
    ------
    MatchError
        If a FOV has several.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "B1", "B1_x_reg2_labels.tif")
    ...     path.parent.mkdir()
    ...     path.touch()
    ...     of = find_by_pattern(Path(folder, "{1}", "*{2}_labels.tif"), ["B1_reg2", "B1_reg3"])
    ...     {fov: path.name for fov, path in of.items()}
    {'B1_reg2': 'B1_x_reg2_labels.tif'}
    """
    first = next(k for k, p in enumerate(pattern.parts) if "*" in p or _FIELD.search(p))
    folder = Path(*pattern.parts[:first])
    out: dict[str, Path] = {}
    for fov in fov_ids:
        fields = {"fov": fov, **{str(k + 1): part for k, part in enumerate(fov.split("_"))}}
        asked = [
            _FIELD.sub(lambda m, f=fields: glob.escape(f.get(m[1], "")), part)  # type: ignore[misc]
            for part in pattern.parts[first:]
        ]
        files = [p for p in sorted(folder.glob("/".join(asked))) if not p.name.startswith(".")]
        if len(files) > 1:
            raise MatchError(
                f"FOV {fov!r} has {len(files)} label images.",
                expected=str(pattern),
                got=format_list([p.name for p in files]),
            )
        if files:
            out[fov] = files[0]
    return out


def resolve_paths(model: Model, base: Path) -> Model:
    """A copy of settings whose paths, at any depth, start from a folder."""

    def resolved(value: Any) -> Any:
        if isinstance(value, Path):
            return resolve_path(base, value)
        if isinstance(value, tuple):
            return tuple(map(resolved, value))
        if isinstance(value, dict):
            return {key: resolved(inner) for key, inner in value.items()}
        if isinstance(value, BaseModel):
            return resolve_paths(value, base)
        return value

    return model.model_copy(
        update={name: resolved(getattr(model, name)) for name in type(model).model_fields}
    )


def paths_in(value: Any) -> list[Path]:
    """All paths in settings; patterns are none."""
    if isinstance(value, Path):
        return [] if is_pattern(value) else [value]
    inner: Any = ()
    if isinstance(value, dict):
        inner = value.values()
    elif isinstance(value, tuple):
        inner = value
    elif isinstance(value, BaseModel):
        inner = [getattr(value, name) for name in type(value).model_fields]
    return [path for item in inner for path in paths_in(item)]
