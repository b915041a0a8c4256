"""Images as PNG files, and as addresses inside a page."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

import numpy as np

from panimbus.core.types import Array, UInt8Array

if TYPE_CHECKING:
    from PIL.Image import Image


def encode_png(image: UInt8Array, *, level: int = 6, palette: bool = False) -> bytes:
    """Encode an image, (h, w) grey or (h, w, 3) RGB, as the bytes of a PNG file.

    With ``palette`` an RGB image of up to 256 colours takes a third of the bytes, and longer.
    """
    from PIL import Image

    buffer = io.BytesIO()
    picture = _with_palette(image) if palette and image.ndim == 3 else None
    picture = picture or Image.fromarray(np.ascontiguousarray(image))
    picture.save(buffer, "PNG", compress_level=level)
    return buffer.getvalue()


def _with_palette(image: UInt8Array) -> Image | None:
    """A picture of few colours; None if there are more than 256."""
    from PIL import Image

    packed = image.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    colours, index = np.unique(packed, return_inverse=True)
    if len(colours) > 256:
        return None
    out = Image.fromarray(index.reshape(packed.shape).astype(np.uint8))
    rgb = np.stack([colours >> 16, colours >> 8 & 255, colours & 255], 1)
    out.putpalette(rgb.astype(np.uint8).tobytes(), "RGB")
    return out


def data_uri(image: UInt8Array | bytes) -> str:
    """A ``data:`` address that holds an image (an array, or the bytes of a PNG file)."""
    data = image if isinstance(image, bytes) else encode_png(image, palette=True)
    return "data:image/png;base64," + base64.b64encode(data).decode()


def fit(image: UInt8Array, side: int) -> Image:
    """Scale an image, (h, w) or (h, w, 3), to ``side`` pixels on its longer axis."""
    from PIL import Image

    scale = side / max(image.shape[:2])
    height, width = (max(1, round(n * scale)) for n in image.shape[:2])
    picture = Image.fromarray(np.ascontiguousarray(image)).convert("RGB")
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def enlarge(image: Array, zoom: int) -> Array:
    """Each pixel of an image, (h, w) or (h, w, 3), as a square of ``zoom`` pixels.

    Examples
    --------
    >>> enlarge(np.array([[1, 2]]), 2).tolist()
    [[1, 1, 2, 2], [1, 1, 2, 2]]
    """
    return image if zoom == 1 else np.repeat(np.repeat(image, zoom, 0), zoom, 1)
