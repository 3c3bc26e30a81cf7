"""Images that cannot be loaded are named, in both tasks' data sets; or passed over and counted."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from mmengine.dataset import BaseDataset, ConcatDataset
from mmengine.logging import MMLogger

from vit_dense.engine.bad_files import BadFilesMixin, evaluate_all_samples
from vit_dense.engine.load_image import LoadCheckedImage, replace_steps

NOISE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
JPEG = cv2.imencode('.jpg', NOISE)[1].tobytes()
BAD = [
    (b'', r'empty \(0 bytes\)'),
    (b'\n<!DOCTYPE html><html></html>', 'web page'),
    (JPEG[: len(JPEG) // 2], 'cut off'),
    (b'\x00\x01\x02' * 99, 'damaged or of an unknown format'),
    (None, 'No such file'),
]


class Images(BadFilesMixin, BaseDataset):
    """The images of a folder."""

    def load_data_list(self) -> list[dict]:
        return [{'img_path': path} for path in sorted(map(str, Path(self.data_root).iterdir()))]


def images(root: Path, **options: Any) -> Images:
    pipeline = [{'type': 'LoadImageFromFile'}]
    plain: dict[str, Any] = {'data_prefix': {}, 'serialize_data': False}  # serializing takes 0.3 s
    return Images(data_root=str(root), pipeline=pipeline, **plain, **options)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for index in range(5):
        cv2.imwrite(str(tmp_path / f'{index}.png'), np.full((40, 60, 3), 100 + index, np.uint8))
    return tmp_path


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is logged."""
    lines: list[str] = []
    logger = MMLogger.get_instance('bad files')
    monkeypatch.setattr(logger, 'handle', lambda record: lines.append(record.getMessage()))
    return lines


def spoil(path: Path, content: bytes | None) -> None:
    path.unlink()
    if content is not None:
        path.write_bytes(content)


@pytest.mark.parametrize(('content', 'reason'), BAD)
def test_bad_files_are_named(root: Path, content: bytes | None, reason: str) -> None:
    dataset = images(root)
    spoil(root / '1.png', content)
    with pytest.raises(ValueError, match=rf"1\.png: .*{reason}.*bad_files='skip'") as error:
        dataset[1]
    assert type(error.value) is ValueError  # a worker's message then ends as others do
    assert dataset[0]['img'][0, 0, 0] == 100


@pytest.mark.parametrize(('content', 'reason'), BAD)
def test_training_passes_over_them(
    root: Path, warnings: list[str], content: bytes | None, reason: str
) -> None:
    dataset = images(root, bad_files='skip')
    for name in ('1.png', '3.png'):
        spoil(root / name, content)
    values = {int(dataset[1]['img'][0, 0, 0]) for _ in range(20)}
    values |= {int(dataset[3]['img'][0, 0, 0]) for _ in range(20)}
    assert values == {100, 102, 104}
    warned = [line for line in warnings if 'Passed over' in line]
    assert len(warned) == 2, warnings
    for number, (line, name) in enumerate(zip(warned, ('1.png', '3.png'), strict=True), 1):
        assert name in line
        assert line.endswith(f'{number} of 5 samples so far.')


def test_figures_are_of_all_samples(root: Path) -> None:
    """Another image instead would change the figures of validation and test."""
    dataset = images(root, bad_files='skip')
    spoil(root / '1.png', b'')
    evaluate_all_samples(ConcatDataset([dataset]))
    with pytest.raises(ValueError, match=r'1\.png: the file is empty'):
        dataset[1]
    tested = images(root, bad_files='skip', test_mode=True)
    with pytest.raises(ValueError, match=r'1\.png: the file is empty'):
        tested[1]


def test_most_files_are_bad(root: Path) -> None:
    dataset = images(root, bad_files='skip')
    for index in range(5):
        spoil(root / f'{index}.png', b'')
    with pytest.raises(ValueError, match='More than half of the 5 samples'):
        dataset[0]


def test_other_errors_are_not_passed_over(root: Path) -> None:
    dataset = images(root, bad_files='skip')
    cv2.imwrite(str(root / '1.png'), NOISE.astype(np.uint16) * 16)
    with pytest.raises(ValueError, match='LoadBands'):
        dataset[1]
    with pytest.raises(ValueError, match="bad_files='ignore': allowed are 'error' and 'skip'"):
        images(root, bad_files='ignore')


def loaded(path: Path, **options: Any) -> np.ndarray:
    return LoadCheckedImage(**options)({'img_path': str(path)})['img']


@pytest.mark.parametrize('bits', [10, 12, 14])
@pytest.mark.parametrize('suffix', ['.png', '.tif'])
def test_deep_images_do_not_become_black(tmp_path: Path, bits: int, suffix: str) -> None:
    path = tmp_path / f'a{suffix}'
    pixels = NOISE.astype(np.uint16) * 2 ** (bits - 8)
    cv2.imwrite(str(path), pixels)
    with pytest.raises(ValueError, match=rf"type uint16 up to {pixels.max()}.*'LoadBands'"):
        loaded(path)
    np.testing.assert_array_equal(loaded(path, color_type='unchanged'), pixels)


def test_images_that_opencv_scales_rightly_are_loaded(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / 'deep.png'), NOISE.astype(np.uint16) * 257)
    np.testing.assert_array_equal(loaded(tmp_path / 'deep.png'), NOISE)
    for name, image in (('dark.png', NOISE // 16), ('black.png', NOISE * 0)):
        cv2.imwrite(str(tmp_path / name), image)
        np.testing.assert_array_equal(loaded(tmp_path / name), image)
    assert loaded(tmp_path / 'dark.png', to_float32=True).dtype == np.float32


def test_floating_point_images(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / 'a.tif'), NOISE.astype(np.float32))
    with pytest.raises(ValueError, match=r'values of type float32 up to 255.*loads none'):
        loaded(tmp_path / 'a.tif')


def test_only_openmmlabs_transforms_are_replaced() -> None:
    table = {'Load': {'type': 'Other', 'more': 1}}
    steps = [
        {'type': 'Load', 'a': 2},
        {'type': 'mmdet.Load'},
        {'type': 'own.Load'},
        {'type': dict},
        {'type': 'TestTimeAug', 'transforms': [[{'type': 'mmcv.transforms.Load'}], [str]]},
    ]
    other = {'type': 'Other', 'more': 1}
    assert replace_steps(steps, table) == [
        {'a': 2, **other},
        other,
        {'type': 'own.Load'},
        {'type': dict},
        {'type': 'TestTimeAug', 'transforms': [[other], [str]]},
    ]
