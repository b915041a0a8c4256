"""Choice of the images in an OME-XML that are FOVs, or channels of one FOV."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from panimbus.core.errors import InputError, format_list
from panimbus.io.ome import OmeImage
from panimbus.io.tiff import is_main_in_colour

_ASIDE = "thumbnail|label|labels|macro|overview|preview|barcode|mask|segmentation"
_IS_ASIDE = re.compile(
    rf"(slide[ _-])?({_ASIDE})([ _-](image|photo|picture|scan|mask))?[ _#]?[0-9]*|.*["
    rf" _\[-]({_ASIDE})([ _-]image)?\]?",
    re.IGNORECASE,
)
# names that writers give an image when nobody named it, and names of places on a slide
_NUMBERED = re.compile(r"(image|series|page|untitled)?[ _:#-]*[0-9]*", re.IGNORECASE)
_PLACE = re.compile(
    r".*(?<![a-z])(roi|fov|scene|position|pos|region|core|tile|point|spot|area|field|well)(?![a-z]).*",
    re.IGNORECASE,
)
_LEVEL_PIXELS = 1
"""Pixels by which a pyramid level may miss its exact size."""


@dataclass(frozen=True)
class FovImages:
    """Images that make up one FOV, each with its position in the file (from 1)."""

    images: tuple[tuple[int, OmeImage], ...]
    names: tuple[str | None, ...] | None = None


def select_fovs(
    images: Sequence[OmeImage], where: object, in_colour: Callable[[OmeImage], bool]
) -> tuple[list[FovImages], tuple[str, ...]]:
    """FOVs among the images of a file, and notes.

    Thumbnails, labels, photographs of the slide and smaller copies are left out. Images of one
    plane each, of one size, are channels of one FOV; images with the same channels are FOVs of
    their own, whatever their sizes.

    Parameters
    ----------
    images
        All images, in the file's order.
    where
        For the message.
    in_colour
        Whether an image is a picture in colours.

    Raises
    ------
    InputError
        If the images have different channels, so that none could be left out without loss.
    """
    numbered = list(enumerate(images, 1))
    if len(numbered) == 1:
        return [FovImages((numbered[0],))], ()
    aside = {i: "beside the image" for i, im in numbered if _IS_ASIDE.fullmatch(im.name.strip())}
    proper = [(i, im) for i, im in numbered if i not in aside] or numbered
    photographs = [(i, im) for i, im in proper if in_colour(im)]
    others = [pair for pair in proper if pair not in photographs]
    if others and not is_main_in_colour(
        [im.sizes[1::-1] for _, im in photographs], [im.sizes[1::-1] for _, im in others]
    ):
        aside |= {i: "in colours" for i, _ in photographs}
        proper = others
    elif photographs:
        proper = photographs
    levels = {
        i: "a smaller copy" for i, im in proper if any(_is_level(im, large) for _, large in proper)
    }
    proper = [(i, im) for i, im in proper if i not in levels]
    aside |= levels
    chosen, spare = _fovs(proper, where)
    aside |= dict.fromkeys(spare, "smaller, with other channels")
    dropped = [
        f"{_title(i, im)} ({_size(im)}, {aside.get(i, 'in colours')})"
        for i, im in numbered
        if not _is_in(i, chosen)
    ]
    notes: tuple[str, ...] = (
        (f"the file holds {len(images)} images; not used: {format_list(dropped, 5)}",)
        if dropped
        else ()
    )
    if any(len(c.images) > 1 for c in chosen):
        notes += (
            (
                f"the file's {len(chosen[0].images)} images of one plane are read as the channels"
                " of one FOV"
            ),
        )
    return chosen, notes


def _fovs(
    proper: Sequence[tuple[int, OmeImage]], where: object
) -> tuple[list[FovImages], list[int]]:
    """FOVs, and positions of small single-plane images that are left out."""
    if len(proper) > 1 and all(im.sizes[2:] == (1, 1, 1) for _, im in proper):
        names = _plane_names(proper)
        if names is not None:
            return [_joined(proper, names, where)], []
    groups: dict[tuple[object, ...], list[tuple[int, OmeImage]]] = {}
    for i, im in proper:
        groups.setdefault((im.sizes[2:], im.names if any(im.names) else ()), []).append((i, im))
    main = max(
        groups.values(),
        key=lambda group: max(im.sizes[0] * im.sizes[1] * im.sizes[2] for _, im in group),
    )
    rest = [pair for group in groups.values() if group is not main for pair in group]
    smallest = min(im.sizes[0] * im.sizes[1] for _, im in main)
    if main[0][1].sizes[2] == 1 or any(
        im.sizes[2] > 1 or im.sizes[0] * im.sizes[1] >= smallest for _, im in rest
    ):
        _refuse_differing(proper, rest, where)
    return [FovImages((pair,)) for pair in main], [i for i, _ in rest]


def _refuse_differing(
    proper: Sequence[tuple[int, OmeImage]], rest: Sequence[tuple[int, OmeImage]], where: object
) -> None:
    if rest:
        shown = [
            f"{_title(i, im)}: {_size(im)}, {format_list([n or '?' for n in im.names], 6)}"
            for i, im in proper
        ]
        raise InputError(
            f"{where}: the images in the file have different channels.",
            expected=(
                "images with the same channels (FOVs), or images of one plane and of one size"
                " (channels of one FOV)"
            ),
            got="; ".join(shown[:6]) + ("; ..." if len(shown) > 6 else ""),
            fix="export each image as a file of its own",
        )


def _plane_names(proper: Sequence[tuple[int, OmeImage]]) -> tuple[str | None, ...] | None:
    """Channel names of single-plane images; None if they are FOVs of one channel."""
    names = [im.names[0] if im.names else None for _, im in proper]
    if any(names):
        return None if len(set(names)) == 1 else tuple(names)
    titles = [im.name.strip() for _, im in proper]
    if len(set(titles)) < len(titles) or all(_NUMBERED.fullmatch(title) for title in titles):
        return tuple(names)
    return (
        None
        if all(_PLACE.fullmatch(title) for title in titles)
        else tuple(title or None for title in titles)
    )


def _joined(
    proper: Sequence[tuple[int, OmeImage]], names: tuple[str | None, ...], where: object
) -> FovImages:
    """Join images of one plane and of one size into a FOV, if their names do not repeat."""
    repeats = set(Counter(names).values())
    if len({(im.sizes[:2], im.size) for _, im in proper}) > 1 or (
        any(names) and repeats != {1} and len(repeats) == 1
    ):
        _refuse_differing(proper, proper, where)
    return FovImages(tuple(proper), names)


def _is_level(small: OmeImage, large: OmeImage) -> bool:
    """Whether an image is a smaller copy of another: its sizes divided by a whole number."""
    if small.sizes[2:] != large.sizes[2:] or (small.names != large.names and any(small.names)):
        return False
    factor = round(large.sizes[0] / small.sizes[0])
    if factor < 2 or any(
        abs(large.sizes[k] / factor - small.sizes[k]) > _LEVEL_PIXELS for k in (0, 1)
    ):
        return False
    if small.size.x is None or large.size.x is None:
        return True
    grown = small.size.x / large.size.x
    if abs(grown - 1) > 0.1:
        return abs(grown / factor - 1) < 0.1
    return small.name == large.name or (_NUMBERED.fullmatch(small.name.strip()) is not None)


def _is_in(position: int, chosen: Sequence[FovImages]) -> bool:
    return any(position == i for c in chosen for i, _ in c.images)


def _title(position: int, image: OmeImage) -> str:
    return image.name or f"image {position}"


def _size(image: OmeImage) -> str:
    return f"{image.sizes[1]} x {image.sizes[0]}"
