"""Overlays and sheets."""

import numpy as np

from vit_dense.data.pictures import legend, overlay, sheet, side_by_side

PALETTE = [[200, 0, 0], [0, 100, 0]]


def test_overlay_mixes_class_colours_and_leaves_void_alone() -> None:
    image = np.full((2, 2, 3), 100, np.uint8)
    labels = np.array([[0, 1], [255, 0]])
    mixed = overlay(image, labels, PALETTE, opacity=0.5)
    assert mixed[0, 0].tolist() == [150, 50, 50]
    assert mixed[0, 1].tolist() == [50, 100, 50]
    assert mixed[1, 0].tolist() == [100, 100, 100]


def test_overlay_enlarges_labels_of_another_size() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    mixed = overlay(image, np.array([[0, 1]]), PALETTE, opacity=1.0)
    assert (mixed[:, :2] == PALETTE[0]).all()
    assert (mixed[:, 2:] == PALETTE[1]).all()


def test_pictures_stand_side_by_side_and_on_a_sheet() -> None:
    one, two = np.zeros((5, 7, 3), np.uint8), np.ones((5, 3, 3), np.uint8)
    row = side_by_side([one, two])
    assert row.shape == (5, 7 + 4 + 3, 3)
    page = sheet([row, one, two], columns=2)
    assert page.shape == (2 * (5 + 4) + 4, 2 * (14 + 4) + 4, 3)
    np.testing.assert_array_equal(page[4:9, 4:18], row)


def test_legend_shows_every_colour_and_wraps() -> None:
    names = [f'class {index}' for index in range(12)]
    colours = [[index * 20, 10, 10] for index in range(12)]
    strip = legend(names, colours, width=200)
    assert strip.shape[1] == 200
    assert strip.shape[0] > 22
    found = {tuple(pixel) for pixel in strip.reshape(-1, 3).tolist()}
    assert {tuple(colour) for colour in colours} <= found
