"""Cells painted with colours."""

import numpy as np

from panimbus.render import paint


def test_rows_of_cells():
    labels = np.array([[0, 7, 7], [9, 70000, 0]], np.uint32)
    rows = paint.cell_rows(labels, np.array([70000, 3, 7]))
    assert rows.tolist() == [[-1, 2, 2], [-1, 0, -1]]
    assert rows.dtype == np.int32
    assert (paint.cell_rows(labels, np.zeros(0, np.int64)) == -1).all()
    assert (paint.cell_rows(np.zeros((2, 2), np.uint8), np.array([3])) == -1).all()


def test_cells_in_the_colours_of_a_table():
    labels = np.zeros((6, 8), np.uint32)
    labels[:, 1:4], labels[:, 4:7] = 7, 70000
    index = paint.cell_rows(labels, np.array([7, 9]))  # 9 lies elsewhere, 70000 is not in the table
    colours = np.array([[100, 110, 120], [10, 20, 30]], np.uint8)
    out = paint.paint_cells(index, colours)
    assert out[2, 2].tolist() == [100, 110, 120]
    assert out[2, 1].tolist() == [93, 102, 111]  # nearly all of the cell is boundary
    assert out[2, 5].tolist() == out[2, 0].tolist() == [255, 255, 255]
    flat = paint.paint_cells(index, colours, borders=False)
    assert flat[2, 1].tolist() == [100, 110, 120]


def test_colours_are_light_to_dark():
    light = paint.score_colours(np.linspace(0, 1, 50)).astype(float) @ (0.299, 0.587, 0.114)
    assert (np.diff(light) < 0).all()
    assert tuple(paint.score_colours(np.array([0.0]))[0]) == paint.SCALE[0]
    assert tuple(paint.score_colours(np.array([1.0]))[0]) == paint.SCALE[-1]
    assert tuple(paint.score_colours(np.array([np.nan]))[0]) == paint.UNKNOWN


def test_cells_and_background():
    index = np.full((7, 7), -1, np.int32)
    index[1:6, 1:6] = 0
    out = paint.paint_cells(index, np.array([[200, 100, 50]], np.uint8))
    assert tuple(out[0, 0]) == paint.GROUND
    assert tuple(out[3, 3]) == (200, 100, 50)
    assert (out[1, 1] < (200, 100, 50)).all()
    paint.outline_cells(out, index, np.array([True]), (1, 2, 3))
    assert tuple(out[2, 2]) == (1, 2, 3)
    assert tuple(out[3, 3]) == (200, 100, 50)
    assert tuple(out[0, 0]) == paint.GROUND


def test_gray():
    out = paint.gray(np.array([[0, 60, 600]]), 60.0)
    assert out[0, 0] == 255
    assert out[0, 1] == out[0, 2] < 10
    assert (paint.gray(np.ones((2, 2)), float("nan")) == 255).all()
