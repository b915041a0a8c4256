"""Description of a dataset's images, shared by the files of `panimbus build` and `evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, Field

from panimbus.core.errors import InputError, format_list
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


class DatasetImages(Strict):
    """Images and label images of a dataset.

    Parameters
    ----------
    name, tissue
    images, labels
        A path, several, or a table FOV -> path. All images count for the normaliser; only FOVs with
        a label image are labelled or scored.
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
        strict = labels if all_labelled and self.fovs is None and not self.rename else None
        fovs = open_fovs(images or [], strict, mpp=self.mpp, channel_names=channel_names)
        if strict is not None:
            return fovs
        self._check("rename", self.rename, fovs)
        # a label image inside an image file serves where no label images are named
        kept = fovs if self.fovs is None else [f.with_(labels=None) for f in fovs]
        renamed = [f.with_(fov_id=self.rename.get(f.fov_id, f.fov_id)) for f in kept]
        self._check("fovs", self.fovs or (), renamed)
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
    """All paths in settings."""
    if isinstance(value, Path):
        return [value]
    inner: Any = ()
    if isinstance(value, dict):
        inner = value.values()
    elif isinstance(value, tuple):
        inner = value
    elif isinstance(value, BaseModel):
        inner = [getattr(value, name) for name in type(value).model_fields]
    return [path for item in inner for path in paths_in(item)]
