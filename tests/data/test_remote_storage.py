"""Data sets in object storage, here behind a local HTTP server: lists, images and masks."""

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import coco_files
import cv2
import numpy as np
import pytest
from mmengine.registry import DATASETS, DefaultScope

import vit_dense.detection
import vit_dense.segmentation  # noqa: F401 - registers

HTTP = {'backend': 'http'}


class Quiet(SimpleHTTPRequestHandler):
    failures = 0

    def do_GET(self) -> None:
        if Quiet.failures:
            Quiet.failures -= 1
            self.send_error(503)
        else:
            super().do_GET()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Serves the test's folder."""
    server = ThreadingHTTPServer(('127.0.0.1', 0), partial(Quiet, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}'
    server.shutdown()
    server.server_close()


def segmentation(address: str, **changes: Any) -> Any:
    steps = ['LoadImageFromFile', 'LoadAnnotations', 'PackSegInputs']
    config = {
        'type': 'CheckedSegDataset',
        'data_root': address,
        'data_prefix': {'img_path': 'images', 'seg_map_path': 'masks'},
        'ann_file': 'lists/train.txt',
        'img_suffix': '.png',
        'metainfo': {'classes': ('a', 'b'), 'palette': [[0, 0, 0], [9, 9, 9]]},
        'pipeline': [{'type': step} for step in steps],
    }
    with DefaultScope.overwrite_default_scope('mmseg'):
        return DATASETS.build({**config, **changes})


def write_masks(root: Path) -> None:
    for folder in ('images', 'masks', 'lists'):
        (root / folder).mkdir(exist_ok=True)
    for number in range(3):
        cv2.imwrite(str(root / f'images/{number}.png'), np.full((40, 48, 3), 50 * number, np.uint8))
        mask = np.zeros((40, 48), np.uint8)
        mask[: 10 * number] = 1
        cv2.imwrite(str(root / f'masks/{number}.png'), mask)
    (root / 'lists/train.txt').write_text('2\n1\n')


@pytest.mark.parametrize('backend', [HTTP, None])
def test_segmentation(tmp_path: Path, address: str, backend: Any) -> None:
    """With and without the backend's name, which the addresses also give."""
    write_masks(tmp_path)
    dataset = segmentation(address, backend_args=backend)
    assert len(dataset) == 2
    assert dataset.ann_file == f'{address}/lists/train.txt'
    assert dataset.backend_args == backend
    sample = dataset[0]
    assert sample['data_samples'].img_path == f'{address}/images/2.png'
    assert int(sample['inputs'].max()) == 100
    assert int(sample['data_samples'].gt_sem_seg.data.sum()) == 20 * 48


def test_segmentation_without_a_list(tmp_path: Path, address: str) -> None:
    write_masks(tmp_path)
    with pytest.raises(ValueError, match=r'cannot list folders. Set ann_file'):
        segmentation(address, ann_file='', backend_args=HTTP)


def test_missing_files_are_named(tmp_path: Path, address: str) -> None:
    write_masks(tmp_path)
    with pytest.raises(ValueError, match=rf'{address}/lists/none.txt cannot be read: .*404'):
        segmentation(address, ann_file='lists/none.txt', backend_args=HTTP)
    (tmp_path / 'images/2.png').unlink()
    with pytest.raises(ValueError, match=rf'{address}/images/2.png cannot be read: .*404'):
        segmentation(address, backend_args=HTTP)[0]


def detection(address: str, name: str = 'train.json') -> Any:
    steps = [{'type': 'LoadImageFromFile'}, {'type': 'LoadAnnotations', 'with_bbox': True}]
    keys = {'type': 'PackDetInputs', 'meta_keys': ('img_path', 'img_id')}
    with DefaultScope.overwrite_default_scope('mmdet'):
        return DATASETS.build(
            {
                'type': 'CheckedCocoDataset',
                'data_root': address,
                'ann_file': f'annotations/{name}',
                'data_prefix': {'img': 'images'},
                'metainfo': {'classes': coco_files.CLASSES},
                'backend_args': HTTP,
                'pipeline': [*steps, keys],
            }
        )


def test_detection(tmp_path: Path, address: str) -> None:
    coco_files.write(tmp_path, coco_files.sound())
    coco_files.write_images(tmp_path)
    dataset = detection(address)
    assert len(dataset) == 2
    sample = dataset[0]
    assert sample['data_samples'].img_path == f'{address}/images/a.png'
    assert sample['inputs'].shape == (3, 40, 48)
    assert sample['data_samples'].gt_instances.bboxes.tensor.tolist() == [[4, 5, 14, 25]]


def test_the_annotation_file_is_checked(tmp_path: Path, address: str) -> None:
    content = coco_files.sound()
    content['categories'][0]['name'] = 'cow'
    coco_files.write(tmp_path, content)
    with pytest.raises(
        ValueError, match=rf"{address}/annotations/train.json has no category 'cat'"
    ):
        detection(address)
    with pytest.raises(ValueError, match=rf'{address}/annotations/none.json cannot be read: .*404'):
        detection(address, 'none.json')
