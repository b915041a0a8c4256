"""The card of a model.

Its inputs, how to run it, what it was trained on and where not to use it. Needs no torch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from panimbus.core.errors import InputError, ReadError, format_list
from panimbus.core.planes import check_planes
from panimbus.core.scale import check_stat_names
from panimbus.io.documents import Strict, format_problems, parse_json, validate

# bounds far above any net in use: a card that asks for more is damaged, or meant to take all the
# memory there is
Width = Annotated[int, Field(ge=1, le=4096)]
Widths = Annotated[tuple[Width, ...], Field(min_length=1, max_length=8)]
Offset = Annotated[float, Field(ge=-1000, le=1000)]


class CompactSettings(Strict):
    """Settings of ``CompactUNet``; the number of planes and statistics comes from the card."""

    widths: Widths = (24, 48, 96)
    blocks: Annotated[int, Field(ge=0, le=16)] = 1
    unshuffle: Annotated[int, Field(ge=1, le=16)] = 2
    norm: bool = False

    @property
    def stride(self) -> int:
        """Image sides must be multiples of this (px)."""
        return int(self.unshuffle * 2 ** (len(self.widths) - 1))

    @property
    def reach(self) -> int:
        """Radius of the receptive field (px): an upper bound.

        A 3x3 convolution at pitch ``f`` adds ``f``; pooling and folding move a pixel inside its
        block, ``stride - 1`` in all. The longest way goes through the deepest level: ``1 + blocks``
        convolutions down and ``blocks`` up at each level.
        """
        depth = len(self.widths)
        pitches = [self.unshuffle * 2**level for level in range(depth)]
        down = sum((1 + self.blocks) * pitch for pitch in pitches)
        up = sum(self.blocks * pitch for pitch in pitches[:-1])
        return int(down + up + self.stride - 1)

    def margin(self, padding: str) -> int:
        """Pixels that the output lacks at each side of the input: none."""
        if padding != "same":
            msg = f"compact_unet pads its convolutions: padding must be 'same', got {padding!r}"
            raise ValueError(msg)
        return 0


class PaperSettings(Strict):
    """Settings of ``PaperUNet``.

    Number of levels and filters of the first level (doubled at each deeper level).
    """

    depth: Annotated[int, Field(ge=2, le=8)] = 5
    root: Annotated[int, Field(ge=1, le=512)] = 64

    @property
    def stride(self) -> int:
        """Image sides must be multiples of this (px)."""
        return int(2 ** (self.depth - 1))

    @property
    def reach(self) -> int:
        """Radius of the receptive field (px): an upper bound.

        What the unpadded net loses at a side, and moves inside pooling blocks (``stride - 1`` in
        all).
        """
        return self.margin("valid") + self.stride - 1

    def margin(self, padding: str) -> int:
        """Pixels that the output lacks at each side of an input of whole strides."""
        if padding == "same":
            return 0
        big = 64 * self.stride
        size = big
        for _ in range(self.depth - 1):
            size = (size - 4) // 2
        size -= 4
        for _ in range(self.depth - 1):
            size = 2 * size - 4
        return (big - size) // 2


class BackboneSettings(Strict):
    """Settings of ``BackboneUNet``.

    A timm encoder by name, and the widths of the decoder, deepest first.

    ``reach`` is what tiles overlap in prediction. It is a choice, not a bound: such encoders see
    further than their images are wide, and some average over the whole window (squeeze and
    excitation), so that a tiled result is close to the whole one only.
    """

    encoder: Annotated[str, Field(min_length=1)] = "resnet50"
    widths: Widths = (256, 128, 64, 32, 16)
    reach: Annotated[int, Field(ge=1, le=4096)] = 256

    @property
    def stride(self) -> int:
        """Image sides must be multiples of this (px)."""
        return int(2 ** len(self.widths))

    def margin(self, padding: str) -> int:
        """Pixels that the output lacks at each side of the input: none."""
        if padding != "same":
            msg = f"backbone_unet pads its convolutions: padding must be 'same', got {padding!r}"
            raise ValueError(msg)
        return 0


Settings = CompactSettings | PaperSettings | BackboneSettings
SETTINGS: dict[str, type[Settings]] = {
    "compact_unet": CompactSettings,
    "paper_unet": PaperSettings,
    "backbone_unet": BackboneSettings,
}


class ModelCard(Strict):
    """What a model is and how it must be run; frozen, written into both of its files as JSON.

    Attributes
    ----------
    planes, stats
        Names of the input planes (P of them, in order; see ``panimbus.core.planes.PLANES``) and of
        the second input vector (S of them, may be empty; see
        ``panimbus.core.scale.ChannelScale.vector``).
    mpp
        Micrometres per pixel at which the net works.
    percentile, percentile_over
        The normaliser: this percentile of the dataset's pooled pixels (all, or those above 0)
        becomes 1.0.
    statistics
        Whose cells the statistics in ``stats`` and ``planes`` describe: those of the whole dataset,
        or of the FOV (where it has `panimbus.core.scale.FEWEST_CELLS` of them).
    padding
        "same": the output has the input's size. "valid": it lacks ``margin`` px at each side.
    stride, reach, margin
        Derived from the architecture: sides must be multiples of ``stride``; no input pixel changes
        an output pixel farther away than ``reach`` px.
    tta, threshold
        Test-time augmentation that suits the model, and the lowest score at which a cell is
        positive.
    calibration
        Marker -> (temperature, offset): prediction divides the logit of each of its pixel scores by
        the one and adds the other.
    trained_on, measured, not_for
        In plain words: training data, how the model was measured, and where it must not be used.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    version: str = "1"
    architecture: Literal["paper_unet", "compact_unet", "backbone_unet"]
    settings: Settings
    planes: Annotated[tuple[str, ...], Field(min_length=1)]
    stats: tuple[str, ...] = ()
    mpp: Annotated[float, Field(ge=0.01, le=100)]
    percentile: Annotated[float, Field(gt=0, le=100)]
    percentile_over: Literal["all", "nonzero"] = "all"
    statistics: Literal["dataset", "fov"] = "dataset"
    padding: Literal["same", "valid"] = "same"
    tta: Literal["none", "auto", "full"] = "full"
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    calibration: dict[str, tuple[Annotated[float, Field(ge=0.001, le=1000)], Offset]] = Field(
        default_factory=dict
    )
    trained_on: str = ""
    measured: str = ""
    not_for: str = ""
    licence: str = ""
    date: str = ""
    commit: str = ""
    seed: int | None = None
    command: str = ""
    metrics: dict[str, Any] = Field(default_factory=dict)

    def __repr__(self) -> str:
        return (
            f"<ModelCard {self.name!r}: version {self.version}, {self.mpp:g} µm/px, tta {self.tta}>"
        )

    __str__ = __repr__

    @model_validator(mode="before")
    @classmethod
    def _settings_by_architecture(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        data = {
            key: value for key, value in data.items() if key not in {"stride", "reach", "margin"}
        }
        kind = SETTINGS.get(str(data.get("architecture", "")))
        if kind is not None and isinstance(data.get("settings", {}), dict):
            data["settings"] = _settings_of(kind, data.get("settings", {}))
        return data

    @field_validator("planes")
    @classmethod
    def _known_planes(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return _known(names, check_planes, "plane")

    @field_validator("stats")
    @classmethod
    def _known_stats(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return _known(names, check_stat_names, "statistic")

    @model_validator(mode="after")
    def _fits_together(self) -> ModelCard:
        expected = SETTINGS[self.architecture]
        if not isinstance(self.settings, expected):
            msg = (
                f"settings of {self.architecture} must be {expected.__name__}, got"
                f" {type(self.settings).__name__}"
            )
            raise ValueError(msg)  # noqa: TRY004 (pydantic gathers ValueErrors only)
        if self.architecture != "compact_unet" and self.stats:
            msg = f"{self.architecture} takes no statistics, got {list(self.stats)}"
            raise ValueError(msg)
        self.settings.margin(self.padding)
        return self

    @cached_property
    def stride(self) -> int:
        """Image sides must be multiples of this (px)."""
        return self.settings.stride

    @cached_property
    def reach(self) -> int:
        """Distance (px) beyond which no input pixel changes an output pixel; an upper bound."""
        return self.settings.reach

    @cached_property
    def margin(self) -> int:
        """Pixels that the output lacks at each side of the input (0 unless padding is "valid")."""
        return self.settings.margin(self.padding)

    def to_json(self) -> str:
        """Return the card as JSON.

        It has ``stride``, ``reach`` and ``margin`` for readers that do not know the architecture.
        """
        derived = {"stride": self.stride, "reach": self.reach, "margin": self.margin}
        return json.dumps({**self.model_dump(mode="json"), **derived})

    @classmethod
    def from_json(cls, text: str | bytes, *, source: str = "model card") -> ModelCard:
        """Read a card that ``to_json`` wrote.

        Raises
        ------
        ReadError
            With every problem of the card, and ``source`` as the place it came from.
        """
        return validate(
            cls,
            parse_json(text, source, "a model card", unique=True),
            f"{source}: the model card is not valid.",
            fix="use a model file written by this version of panimbus, or update panimbus",
            kind=ReadError,
        )


def _settings_of(kind: type[Settings], data: Any) -> Settings:
    """Settings of an architecture; pydantic tells what is wrong with them as a part of the card."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise ValueError(
            "; ".join(f"settings.{problem}" for problem in format_problems(error, kind))
        ) from None


def _known(
    names: tuple[str, ...], check: Callable[[Sequence[str]], None], kind: str
) -> tuple[str, ...]:
    try:
        check(names)
    except InputError as error:
        raise ValueError(str(error)) from None
    if len(set(names)) != len(names):
        msg = f"{kind} named twice in {format_list(names)}"
        raise ValueError(msg)
    return names
