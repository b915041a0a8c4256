"""Small labels drawn into pictures without a font library.

The 5 x 7 pixel letters of old displays, smoothed.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

_COLUMNS = bytes.fromhex(
    "000000000000005f00000007000700147f147f14242a7f2a1223130864623649562050000a060000001c2241000041221c0014083e081408083e080800a06000000808080808006060000020100804023e5149453e00427f400042615149462141454b311814127f1027454545393c4a49493001710905033649494936064949291e0036360000005636000008142241001414141414004122140802015109063249794"
    " 13e7e1111117e7f494949363e414141227f4141221c7f494949417f090909013e4149497a7f0808087f00417f41002040413f017f081422417f404040407f020c027f7f0408107f3e4141413e7f090909063e4151215e7f09192946464949493101017f01013f4040403f1f2040201f3f4038403f63140814630708700807615149454300"
    " 7f414100020408102000 41417f00040201020440404040400001020400205454547"
    " 87f484444383844444420384444487f3854545418087e09010218a4a4a47c7f0804047800447d40004080847d007f1028440000417f40007c041804787c080404783844444438fc2424241818242424fc7c080404084854545420043f4440203c4040207c1c2040201c3c4030403c44281028441ca0a0a07c4464544c44000836410000007f00000041360800"
    " 1008081008".replace(" ", "")
)
"""Five columns a character from the space on; the lowest bit is the top row."""


@lru_cache(maxsize=256)
def _glyph(char: str) -> npt.NDArray[np.float32]:
    """(8, w) one letter without blank columns at its sides."""
    code = {"µ": "u", "×": "x", "–": "-", "—": "-", "·": "."}.get(char, char)
    at = (ord(code) - 32) * 5
    if not 0 <= at < len(_COLUMNS):
        at = (ord("?") - 32) * 5
    bits = np.frombuffer(_COLUMNS[at : at + 5], np.uint8)
    glyph = ((bits[None, :] >> np.arange(8)[:, None]) & 1).astype(np.float32)
    used = np.flatnonzero(glyph.any(0))
    return glyph[:, used[0] : used[-1] + 1] if len(used) else np.zeros((8, 2), np.float32)


def draw_text(text: str, height: int = 16) -> npt.NDArray[np.float32]:
    """How much ink lies on each pixel.

    Parameters
    ----------
    text
        One line; what is not ASCII becomes a question mark.
    height
        Of the line in pixels, descenders included.

    Returns
    -------
    (height, w) float32
        0 = none, 1 = full.
    """
    from scipy import ndimage

    gap = np.zeros((8, 1), np.float32)
    parts = [part for char in text for part in (_glyph(char), gap)] or [gap]
    fine = 6  # draw large, round the corners, average down
    line = np.kron(
        np.pad(np.concatenate(parts, axis=1), ((0, 0), (1, 0))), np.ones((fine, fine), np.float32)
    )
    soft = np.clip((ndimage.gaussian_filter(line, 0.38 * fine) - 0.42) * 6 + 0.5, 0, 1)
    zoom = height / soft.shape[0]
    blurred = ndimage.gaussian_filter(soft, 0.45 / zoom)
    small = ndimage.zoom(blurred, (zoom, zoom), order=1, grid_mode=True, mode="nearest")
    return np.clip(small * 1.15, 0, 1).astype(np.float32)
