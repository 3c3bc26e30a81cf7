"""Masks are compared with their images as the pipeline loads them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vit_dense.segmentation import CheckedSegDataset


@pytest.mark.parametrize(
    ('color_type', 'mask_size'),
    [('color', (40, 48)), ('color_ignore_orientation', (48, 40)), ('unchanged', (48, 40))],
)
def test_exif_is_applied_or_not(
    tmp_path: Path, color_type: str, mask_size: tuple[int, int]
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for folder in ('images', 'masks'):
        (tmp_path / folder).mkdir()
    Image.new('RGB', (48, 40)).save(tmp_path / 'images' / 'a.png', exif=exif)

    def build(size: tuple[int, int]) -> CheckedSegDataset:
        values = np.arange(size[0] * size[1]).reshape(size[::-1]) % 2
        Image.fromarray(values.astype(np.uint8)).save(tmp_path / 'masks' / 'a.png')
        return CheckedSegDataset(
            data_root=str(tmp_path),
            data_prefix={'img_path': 'images', 'seg_map_path': 'masks'},
            img_suffix='.png',
            metainfo={'classes': ('a', 'b'), 'palette': [[0, 0, 0], [9, 9, 9]]},
            pipeline=[{'type': 'LoadImageFromFile', 'color_type': color_type}],
        )

    assert build(mask_size)[0]['img'].shape[:2] == mask_size[::-1]
    with pytest.raises(ValueError, match='pixels, its image'):
        build(mask_size[::-1])
