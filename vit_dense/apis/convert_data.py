"""Write the data of a config in the layout of ADE20K (masks) or COCO (boxes)."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from mmengine.config import Config
from PIL import Image

from .data_sources import Source, open_sources

_ADE_FOLDERS = {'train': 'training', 'val': 'validation', 'test': 'test'}


def convert_data(config: Config, out: Path) -> Iterator[str]:
    """Copy images, and write their labels as the model is trained on them.

    Masks become PNG files of class indices in `annotations/{training,validation}`: of 8 bits, with
    255 for ignored pixels; of 16 bits, with 65535, for over 255 classes. Boxes become
    `annotations/{train,val}.json`.

    Args:
        config: From `load_config`.
        out: The folder to write; no file in it is overwritten.

    Yields:
        A line about each split.

    Raises:
        ValueError: Data are missing or wrong, or a file exists; the message names them.
    """
    for source in open_sources(config, list(_ADE_FOLDERS)):
        source.dataset.full_init()
        if hasattr(source.dataset, 'reduce_zero_label'):
            yield _write_masks(source, out)
        elif hasattr(source.dataset, 'load_truth'):
            yield _write_boxes(source, out)
        else:
            name = type(source.dataset).__name__
            raise ValueError(f'{name} cannot be converted: use CheckedCocoDataset in the config.')


def _write_masks(source: Source, out: Path) -> str:
    folder, classes = _ADE_FOLDERS[source.split.name], len(source.split.classes)
    kind = np.uint8 if classes <= np.iinfo(np.uint8).max else np.uint16
    for index in range(len(source.dataset)):
        sample = source.dataset.get_data_info(index)
        name = os.path.relpath(sample['img_path'], source.folder)
        shutil.copy2(sample['img_path'], _new(out / 'images' / folder / name))
        if (path := sample.get('seg_map_path')) is None:
            continue
        labels = source.read(path)
        ignored = np.isin(labels, [*source.split.ignored])
        if not (ignored | ((labels >= 0) & (labels < classes))).all():
            raise ValueError(f'{path} holds values that are no class: run vit-dense check.')
        target = _new((out / 'annotations' / folder / name).with_suffix('.png'))
        Image.fromarray(np.where(ignored, np.iinfo(kind).max, labels).astype(kind)).save(target)
    return f'{out / "annotations" / folder}: {len(source.dataset)} images'


def _write_boxes(source: Source, out: Path) -> str:
    name, content = source.split.name, source.dataset.load_truth().dataset
    target = _new(out / 'annotations' / f'{name}.json')
    for one in content['images']:
        file = one['file_name']
        shutil.copy2(os.path.join(source.folder, file), _new(out / name / file))
    target.write_text(json.dumps(content), encoding='utf-8')
    return f'{target}: {len(content["images"])} images, {len(content["annotations"])} objects'


def _new(path: Path) -> Path:
    if path.exists():
        raise ValueError(f'{path} exists, and nothing is overwritten: name another folder.')
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
