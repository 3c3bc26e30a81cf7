"""Pictures of what a model was given: right colours, original size, any number of channels."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.structures import BaseDataElement

from vit_dense.engine.model_input import input_picture

RGB = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)


def tensor(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def sample(**metainfo: object) -> BaseDataElement:
    return BaseDataElement(metainfo={'ori_shape': (6, 8), 'img_path': 'nowhere.npy', **metainfo})


def test_channels_are_reversed_as_the_model_does() -> None:
    bgr = tensor(RGB[..., ::-1])
    np.testing.assert_array_equal(input_picture(sample(), bgr), RGB)
    np.testing.assert_array_equal(input_picture(sample(), tensor(RGB), reverse=False), RGB)


@pytest.mark.parametrize('dtype', [np.float32, np.uint16])
def test_levels_of_other_types_are_kept(dtype: type) -> None:
    given = torch.from_numpy(RGB.transpose(2, 0, 1).astype(np.int32).astype(dtype).astype(float))
    np.testing.assert_array_equal(input_picture(sample(), given, reverse=False), RGB)


def test_other_ranges_are_stretched() -> None:
    values = np.zeros((6, 8, 3), np.float32)
    values[0], values[1] = 1.0, 0.4
    picture = input_picture(sample(), tensor(values))
    assert [int(picture[row, 0, 0]) for row in (0, 1, 2)] == [255, 102, 0]
    values[0], values[1] = 3000, -1000
    values[2, 0] = np.nan
    picture = input_picture(sample(), tensor(values))
    assert [int(picture[row, 0, 0]) for row in (0, 1, 2)] == [255, 0, 64]


def test_numbers_of_channels() -> None:
    extra = np.full((6, 8, 1), 9, np.uint8)
    four = tensor(np.concatenate([RGB[..., ::-1], extra], 2))
    np.testing.assert_array_equal(input_picture(sample(), four, reverse=False), RGB)
    for count in (1, 2):
        grey = input_picture(sample(), tensor(RGB[..., :count]))
        np.testing.assert_array_equal(grey, np.repeat(RGB[..., :1], 3, 2))


def test_a_pipeline_that_normalises_is_undone() -> None:
    norm = {'mean': [10.0, 20, 30], 'std': [2.0, 4, 8], 'to_rgb': True}
    given = tensor(((RGB - np.array(norm['mean'])) / norm['std']).astype(np.float32))
    picture = input_picture(sample(img_norm_cfg=norm), given, reverse=False)
    np.testing.assert_array_equal(picture, RGB)


def test_padding_is_cut_off_and_the_original_size_restored() -> None:
    padded = np.zeros((32, 32, 3), np.uint8)
    padded[:12, :16] = RGB.repeat(2, 0).repeat(2, 1)
    picture = input_picture(sample(scale_factor=(2.0, 2.0)), tensor(padded), reverse=False)
    np.testing.assert_array_equal(picture, RGB)
    small = tensor(np.full((3, 4, 3), 1, np.uint8))  # dark, not a share of 255
    picture = input_picture(sample(scale_factor=(0.5, 0.5)), small)
    assert picture.shape == (6, 8, 3)
    assert (picture == 1).all()


def test_files_are_read_where_the_input_cannot_be_drawn(tmp_path: Path) -> None:
    path = str(tmp_path / 'a.png')
    cv2.imwrite(path, RGB[..., ::-1])
    blank = torch.zeros(3, 6, 8)
    for inputs, flip in ((None, False), ([blank], False), (blank, True)):
        picture = input_picture(sample(img_path=path, flip=flip), inputs)
        np.testing.assert_array_equal(picture, RGB)
    (tmp_path / 'a.npy').write_bytes(b'numbers')
    with pytest.raises(ValueError, match=r'OpenCV cannot read .*a\.npy'):
        input_picture(sample(img_path=str(tmp_path / 'a.npy')), None)
