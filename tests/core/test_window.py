"""Windows of the model's grid: rescued cells take free pixels only, the first of several."""

import numpy as np

from panimbus.core.fov import Fov
from panimbus.core.scan import scan_cells
from panimbus.core.window import read_index


def test_rescued_cells_take_free_pixels_only():
    labels = np.zeros((16, 16), np.uint32)
    labels[0, 0], labels[0, 3] = 3, 70_000  # both in model pixel (0, 0)
    labels[4:12, 4:12] = 5
    labels[4, 4] = 9  # in a pixel of cell 5
    labels[15, 15] = 2**31 + 5
    fov = Fov("f", np.zeros((1, 16, 16)), ("a",), labels, 0.25)
    cells = scan_cells(fov, 1.0)
    assert sorted(cells.rescued.tolist()) == [[0, 0, 0], [2, 1, 1], [3, 0, 0], [4, 3, 3]]
    np.testing.assert_array_equal(cells.pixels, [1, 4, 1, 1, 1])
    whole = read_index(fov, cells, (0, 4, 0, 4))
    np.testing.assert_array_equal(
        whole, [[0, -1, -1, -1], [-1, 1, 1, -1], [-1, 1, 1, -1], [-1, -1, -1, 4]]
    )
    for y in range(3):
        for x in range(3):
            np.testing.assert_array_equal(
                read_index(fov, cells, (y, y + 2, x, x + 2)), whole[y : y + 2, x : x + 2]
            )
