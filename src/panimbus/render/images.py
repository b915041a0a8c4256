"""Images as PNG files, as addresses inside a page, and with labels."""

from __future__ import annotations

import base64
import io
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from panimbus.core.types import UInt8Array

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont


def encode_png(image: UInt8Array, *, level: int = 6) -> bytes:
    """Encode an image, (h, w) grey or (h, w, 3) RGB, as the bytes of a PNG file."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, "PNG", compress_level=level)
    return buffer.getvalue()


def data_uri(image: UInt8Array | bytes) -> str:
    """A ``data:`` address that holds an image (an array, or the bytes of a PNG file)."""
    data = image if isinstance(image, bytes) else encode_png(image)
    return "data:image/png;base64," + base64.b64encode(data).decode()


def fit(image: UInt8Array, side: int) -> Image:
    """Scale an image, (h, w) or (h, w, 3), to ``side`` pixels on its longer axis."""
    from PIL import Image

    scale = side / max(image.shape[:2])
    height, width = (max(1, round(n * scale)) for n in image.shape[:2])
    picture = Image.fromarray(np.ascontiguousarray(image)).convert("RGB")
    return picture.resize((width, height), Image.Resampling.LANCZOS)


@lru_cache
def font(size: int) -> FreeTypeFont:
    """The font of labels, which is that of the charts, in pixels."""
    import matplotlib as mpl
    from PIL import ImageFont

    path = Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(path, size)
