"""Crops around annotated cells, and the scores of these cells, exactly as prediction gives them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from scipy.special import expit

from panimbus.annotations.table import CELL, CHANNEL, FOV
from panimbus.core.correction import NONE
from panimbus.core.errors import InputError
from panimbus.core.fov import Fov
from panimbus.core.planes import channel_planes, label_planes
from panimbus.core.scale import ChannelScale, stat_vector
from panimbus.core.scan import FovCells
from panimbus.core.types import Float32Array
from panimbus.core.window import Window, read_channels, read_index
from panimbus.data.source import ScannedDataset
from panimbus.model.card import ModelCard

BLOCK = 1536  # model pixels that are read at once
SIDE = 96  # of the square crops that are trained on, in model pixels


@dataclass(frozen=True, eq=False)
class Crop:
    """An annotated cell and its surroundings, in one channel.

    Parameters
    ----------
    row
        Of the annotation.
    image : (h, w) float32
        Intensity divided by the normaliser.
    index : (h, w) int32
        Cell of each pixel, -1 = background.
    mean : (n,) float32
        Mean normalised intensity of all the FOV's cells.
    stats
        The channel's statistics in units of the normaliser.
    pixels : (h, w) bool
        The pixels whose mean score is the cell's score.
    """

    row: int
    image: Float32Array
    index: npt.NDArray[np.int32]
    mean: Float32Array
    stats: Mapping[str, float]
    pixels: npt.NDArray[np.bool_]

    def inputs(self, card: ModelCard) -> tuple[Float32Array, Float32Array]:
        """Planes (P, h, w) and statistics (S,) that the card's net sees."""
        planes = channel_planes(
            label_planes(card.planes, self.index),
            card.planes,
            self.image,
            index=self.index,
            cell_mean=self.mean,
            stats=self.stats,
        )
        return planes, stat_vector(self.stats, card.stats)

    def part(self, side: int, stride: int) -> Crop:
        """The part of at most ``side`` x ``side`` pixels with the cell as central as possible."""
        cuts = []
        for axis in (0, 1):
            n, where = self.image.shape[axis], np.flatnonzero(self.pixels.any(1 - axis))
            low = int((where[0] + where[-1] + 1 - side) / 2) // stride * stride
            low = min(max(low, 0), max(n - side, 0))
            cuts.append(slice(low, low + side))
        rows, cols = cuts
        image, index, pixels = (
            self.image[rows, cols].copy(),
            self.index[rows, cols].copy(),
            self.pixels[rows, cols].copy(),
        )
        return Crop(self.row, image, index, self.mean, self.stats, pixels)


def crops(calls: pd.DataFrame, dataset: ScannedDataset, card: ModelCard) -> Iterator[Crop]:
    """The crop of each annotated cell, so large that the cell's score is what `predict` gives.

    Windows begin on the net's pooling stride and end at least the radius of its receptive field
    from the cell, or at the image's own edges. The order is any.

    Parameters
    ----------
    calls
        Columns fov, cell_id, channel; the index numbers the calls. No channel is blank.
    dataset
        The FOVs, with normalisers.
    card
        Of the model.
    """
    halo = -(-(card.reach + 1) // card.stride) * card.stride
    for one in dataset.fovs:
        fov, cells = one.fov, one.cells
        own = calls[calls[FOV] == fov.fov_id]
        if not len(own):
            continue
        index = cells.index(own[CELL].to_numpy())
        centre = cells.geometry.centroids()[index]
        at = np.stack(
            [(centre[:, k] + 0.5) / axis.scale for k, axis in enumerate((cells.y, cells.x))], 1
        )
        block = (at // BLOCK).astype(np.intp)
        stats = one.stats if card.statistics == "fov" else None
        where = _Where(fov, cells, one.mean, dataset.scale.with_stats(stats), dataset, card, halo)
        for key in np.unique(block, axis=0):
            inside = (block == key).all(1)
            yield from _block_crops(own[inside], index[inside], at[inside], where)


@dataclass(frozen=True, eq=False)
class _Where:
    fov: Fov
    cells: FovCells
    mean: Float32Array
    scale: ChannelScale
    dataset: ScannedDataset
    card: ModelCard
    halo: int

    def window(self, low: npt.NDArray[Any], high: npt.NDArray[Any]) -> Window:
        """The window around a box (y, x): a halo larger, on the stride, inside the padded image."""
        card, out = self.card, []
        margin = self.halo if card.padding == "valid" else 0
        for k, axis in enumerate((self.cells.y, self.cells.x)):
            top = (
                max(-(-(axis.size + 2 * margin) // card.stride) * card.stride, 2 * card.stride)
                - margin
            )
            begin = (int(low[k]) - self.halo) // card.stride * card.stride
            end = -(-(int(high[k]) + self.halo) // card.stride) * card.stride
            end = min(max(end, begin + 2 * card.stride), top)
            out.append((max(min(begin, end - 2 * card.stride), -margin), end))
        return (*out[0], *out[1])


def _block_crops(
    calls: pd.DataFrame, cells: npt.NDArray[Any], at: npt.NDArray[Any], where: _Where
) -> Iterator[Crop]:
    """Crops of the calls of one block: label image and channels are read once."""
    scale = where.scale
    radius = 4 * where.halo  # within which a cell lies around its centre
    block = where.window(at.min(0) - radius, at.max(0) + radius)
    index = read_index(where.fov, where.cells, block)
    pixels = {}
    for cell, centre in zip(cells.tolist(), at, strict=True):
        if cell not in pixels:
            pixels[cell] = _pixels_of(
                cell, where, index, block, np.stack([centre - radius, centre + radius])
            )
    boxes = {
        c: (np.array([ys.min(), xs.min()]), np.array([ys.max(), xs.max()]) + 1)
        for c, (ys, xs) in pixels.items()
    }
    channels = list(dict.fromkeys(calls[CHANNEL]))
    rows, channel_of = calls.index.to_numpy(), calls[CHANNEL].to_numpy()
    for name, raw in zip(
        channels, read_channels(where.fov, where.cells, block, channels), strict=True
    ):
        value = np.float32(scale.value(name))
        mean = where.mean[:, where.dataset.channels.index(name)] / value
        stats = scale.relative_stats(name)
        image = raw / value
        for k in np.flatnonzero(channel_of == name):
            y0, y1, x0, x1 = where.window(*boxes[int(cells[k])])
            cut = (slice(y0 - block[0], y1 - block[0]), slice(x0 - block[2], x1 - block[2]))
            mask = np.zeros((y1 - y0, x1 - x0), np.bool_)
            ys, xs = pixels[int(cells[k])]
            mask[ys - y0, xs - x0] = True
            yield Crop(int(rows[k]), image[cut].copy(), index[cut].copy(), mean, stats, mask)


def _pixels_of(
    cell: int,
    where: _Where,
    index: npt.NDArray[np.int32],
    block: Window,
    box: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Model pixels (y, x) of a cell inside a box (low, high).

    Of a reflected edge only the image itself counts.

    A cell too small for a pixel of its own is scored at the pixel that stands for it, also where
    that is another cell's.
    """
    cells = where.cells
    stands = cells.rescued[cells.rescued[:, 0] == cell]
    if len(stands):
        return stands[:, 1], stands[:, 2]
    size = np.array([cells.y.size, cells.x.size])
    (y0, x0), (y1, x1) = (
        np.maximum(box[0], 0).astype(np.intp),
        np.minimum(np.ceil(box[1]), size).astype(np.intp),
    )
    ys, xs = np.nonzero(index[y0 - block[0] : y1 - block[0], x0 - block[2] : x1 - block[2]] == cell)
    if not len(ys):
        raise InputError(
            f"FOV {where.fov.fov_id!r}: cell {cells.index.ids[cell]} has parts far from each other"
            " and none near its centre.",
            fix="leave its calls away, or give each part a label of its own",
        )
    return ys + y0, xs + x0


def view(array: npt.NDArray[Any], k: int) -> npt.NDArray[Any]:
    """View ``k`` (0..7) of an array (..., Y, X).

    Transposed if 4 or more, then rows, then columns reversed.
    """
    turned = array.swapaxes(-2, -1) if k & 4 else array
    return turned[..., :: -1 if k & 2 else 1, :: -1 if k & 1 else 1]


def pixel_logits(
    net: Any,
    card: ModelCard,
    shown: Sequence[Crop],
    correction: Sequence[tuple[float, float]],
    device: str = "cpu",
) -> list[Float32Array]:
    """Logits of each crop's cell.

    (views, pixels) float32, under the card's correction of its marker.

    Parameters
    ----------
    net
        Torch module in evaluation mode, on ``device``.
    card
        Which planes it sees, and over which views it averages.
    shown
        Crops.
    correction
        Of each crop.
    device
        Of torch.
    """
    numbers = range(8) if card.tta == "full" else range(1)
    out = []
    with torch.inference_mode():
        for crop, (temperature, offset) in zip(shown, correction, strict=True):
            planes, stats = crop.inputs(card)
            parts = []
            for group in (range(4), range(4, 8)):
                chosen = [k for k in numbers if k in group]
                if not chosen:
                    continue
                batch = np.stack([view(planes, k) for k in chosen])
                logits = (
                    run_net(net, batch, np.repeat(stats[None], len(chosen), 0), device)
                    .float()
                    .cpu()
                    .numpy()[:, 0]
                )
                lost = (batch.shape[2] - logits.shape[1]) // 2
                for one, k in zip(logits, chosen, strict=True):
                    ys, xs = np.nonzero(view(crop.pixels, k))
                    parts.append(one[ys - lost, xs - lost])
            out.append((np.stack(parts) / temperature + offset).astype(np.float32))
    return out


def run_net(net: Any, planes: Float32Array, stats: Float32Array, device: str) -> torch.Tensor:
    """(N, P, H, W) and (N, S) -> logits (N, 1, H', W')."""
    x = torch.from_numpy(np.ascontiguousarray(planes)).to(device)
    s = torch.from_numpy(np.ascontiguousarray(stats)).to(device)
    logits: torch.Tensor = net.logits(x, s if s.shape[1] else None)
    return logits


def score_calls(
    net: Any,
    card: ModelCard,
    calls: pd.DataFrame,
    dataset: ScannedDataset,
    *,
    device: str = "cpu",
    seen: Callable[[int], None] = lambda _done: None,
) -> npt.NDArray[np.float64]:
    """(n,) score of every annotated cell, in the order of ``calls``: mean over pixels and views.

    The index of ``calls`` is 0 .. n-1.
    """
    out = np.full(len(calls), np.nan)
    marker = calls[CHANNEL].to_numpy()
    for crop in crops(calls, dataset, card):
        (logits,) = pixel_logits(
            net, card, [crop], [card.calibration.get(str(marker[crop.row]), NONE)], device
        )
        out[crop.row] = expit(logits.astype(np.float64)).mean()
        seen(int(np.count_nonzero(~np.isnan(out))))
    return out
