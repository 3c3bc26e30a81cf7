"""Batches of equal sizes, the order of results, and errors of single images."""

from pathlib import Path

import numpy as np
import pytest
from stub_predictor import REFUSED, StubPredictor, write_image

from vit_dense.runtime import InputError, Item, PredictOptions, Segmentation


def image(blue: int, width: int = 6) -> np.ndarray:
    return np.full((4, width, 3), (blue, 7, 9), np.uint8)


def first_labels(results: list[Segmentation]) -> list[int]:
    return [int(result.labels[0, 0]) for result in results]


def test_equal_sizes_run_together_and_keep_their_order() -> None:
    model = StubPredictor()
    widths = [6, 8, 6, 8, 6, 8, 6]
    results = model.predict([image(i, w) for i, w in enumerate(widths)], batch_size=3)
    assert first_labels(results) == [i % 3 for i in range(7)]
    assert [result.labels.shape[1] for result in results] == widths
    assert sorted(model.batches) == [1, 3, 3]


def test_one_rare_size_does_not_hold_back_the_stream() -> None:
    """At most four batches wait for images of their size."""
    model = StubPredictor()
    read = 0

    def images() -> 'np.ndarray':
        nonlocal read
        for index in range(40):
            read += 1
            yield image(index, 99 if index == 0 else 6)

    results = model.predict(images(), batch_size=2)
    assert int(next(results).labels[0, 0]) == 0
    assert read <= 2 * 4 + 1
    assert len(list(results)) == 39


def test_one_by_one_reads_no_further() -> None:
    model = StubPredictor()
    numbers = iter(range(5))
    results = model.predict((image(next(numbers)) for _ in range(5)), batch_size=1)
    next(results)
    assert next(numbers) == 1


def test_kinds_of_results(tmp_path: Path) -> None:
    model = StubPredictor()
    path = write_image(tmp_path / 'a.png', 2)
    assert isinstance(model.predict(path), Segmentation)
    assert isinstance(model.predict(image(0)), Segmentation)
    assert len(model.predict(tmp_path)) == len(model.predict(f'{tmp_path}/*.png')) == 1
    assert iter(model.predict(iter([path]))) is not None


def test_channel_order() -> None:
    model = StubPredictor()
    result = model.predict(image(2)[..., ::-1], channel_order='rgb')
    assert (result.labels == 2).all()
    assert (result.image == image(2)[..., ::-1]).all()
    with pytest.raises(ValueError, match="'bgr' or 'rgb'"):
        model.predict(image(2), channel_order='gbr')


def test_a_bad_image_does_not_spoil_the_others(tmp_path: Path) -> None:
    (tmp_path / 'bad.png').touch()
    model = StubPredictor()
    items = [
        Item('0', array=image(0)),
        Item('bad', path=str(tmp_path / 'bad.png')),
        Item('refused', array=image(REFUSED)),
        Item('3', array=image(2)),
    ]
    found = list(model.iter_predictions(items, PredictOptions(batch_size=4)))
    assert [item.name for item, _ in found] == ['0', 'bad', 'refused', '3']
    assert [isinstance(result, InputError) for _, result in found] == [False, True, True, False]
    assert found[1][1].message == f'{tmp_path / "bad.png"}: the file is empty (0 bytes)'
    assert found[2][1].message == 'refused: the model failed'
    with pytest.raises(ValueError, match='the model failed'):
        model.predict(image(REFUSED))


def test_options_are_checked_first() -> None:
    with pytest.raises(ValueError, match='tta_model'):
        StubPredictor().predict(image(0), tta=True)
    with pytest.raises(ValueError, match='batch_size'):
        StubPredictor().predict(image(0), batch_size=0)
