"""From a folder of labelled images to a config that trains."""

import os
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from timm.models import get_pretrained_cfg_value

from ..data.files import spread_evenly
from ..data.layouts import TASKS, Layout, recognise
from ..data.layouts.images import Images, inspect_images
from ..data.scan import Scan, scan_image, scan_mask
from ..engine.load_bands import LoadBands
from ..runtime.writing import write_picture
from .check_page import contact_sheet
from .config import load_config
from .data_sources import open_sources

Rows = list[tuple[str, str]]
_PICTURES = 12
_WIDTH, _LINES = 100, 40  # of a config
_STEP = 32  # sizes are multiples of it
_SMALLEST = 224  # pixels; smaller images are enlarged to it
_MANY = 2000  # training images from which a larger ViT is worth its time
_TEMPLATES = {
    'segmentation': ('vit_upernet_small.py', 'vit_{}_patch16_224.augreg_in21k_ft_in1k'),
    'boxes': ('vit_atss_small.py', 'deit_{}_patch16_224.fb_in1k'),
    'masks': ('vit_maskrcnn_small.py', 'deit_{}_patch16_224.fb_in1k'),
}


def init_config(
    folder: str,
    out: str,
    *,
    task: str | None = None,
    images: str = '',
    labels: str = '',
    classes: str = '',
    force: bool = False,
) -> Rows:
    """Look at a folder, write a config that trains on it, lists of its splits, and a contact sheet.

    Args:
        folder: The folder of images and labels; nothing is written there.
        out: The config to write.
        task: See `recognise`, as `images`, `labels` and `classes`.
        images: Folder of images.
        labels: Folder or file of masks or boxes.
        classes: Names of the classes.
        force: Overwrite files of an earlier call.

    Returns:
        What was understood: rows of a table.

    Raises:
        ValueError: A file to write exists, or the folder is not understood.
    """
    start = Path(out).with_suffix('')
    files = [out, *(f'{start}_{end}' for end in ('train.txt', 'val.txt', 'contact_sheet.png'))]
    if (found := [one for one in files if os.path.exists(one)]) and not force:
        raise ValueError(f'{found[0]} exists: give another --out, or --force to overwrite it.')
    layout = recognise(folder, task=task, images=images, labels=labels, classes=classes)
    pictures = inspect_images(layout.paths('train'), _load)
    kind = layout.task if layout.task == TASKS[0] else 'masks' if layout.has_masks else 'boxes'
    start.parent.mkdir(parents=True, exist_ok=True)
    settings, training = _training(len(layout.splits['train'].names), pictures, kind)
    rows = [*_understood(layout, pictures), *training]
    variables = {**_data(layout, start), **settings}
    Path(out).write_text(_config_text(_TEMPLATES[kind][0], rows, variables, out), encoding='utf-8')
    sheet = f'{start}_contact_sheet.png'
    _draw_contact_sheet(out, sheet)
    classes = ', '.join(layout.encoding.classes)
    rows += [(f'{len(layout.encoding.classes)} classes', classes), ('pictures', sheet)]
    return rows + [('not decided', f'{what}: {option}') for what, option in layout.undecided]


def _draw_contact_sheet(config: str, sheet: str) -> None:
    """Draw training images and labels as the data set of the config loads them."""
    (source,) = open_sources(load_config(config), ['train'])
    split, drawn = source.split, set(spread_evenly(len(source.images), _PICTURES))
    rest = Scan('', error='not read')
    images, masks = enumerate(source.images), enumerate(source.masks)
    split.images = [scan_image(one, source.load) if n in drawn else rest for n, one in images]
    split.masks = [scan_mask(one, source.read) if n in drawn else rest for n, one in masks]
    write_picture(Path(sheet), contact_sheet([source]))


def _data(layout: Layout, start: Path) -> dict[str, Any]:
    """Return the variables that describe the data; write lists of names where necessary."""
    kind = 'masks' if layout.task == TASKS[0] else 'boxes'
    rule, train = layout.encoding, layout.splits['train']
    found: dict[str, Any] = {'data_root': layout.root, 'classes': tuple(rule.classes)}
    for split in ('train', 'val'):
        one = layout.splits[split]
        found |= {f'{split}_images': one.images, f'{split}_{kind}': one.labels}
        if one.is_part:
            path = Path(f'{start}_{split}.txt').absolute()
            # Names with commas or spaces could be taken for two columns.
            names = [f'"{name}"' if {',', ' '} & {*name} else name for name in one.names]
            path.write_text('\n'.join([*names, '']), encoding='utf-8')
            found[f'{split}_list'] = str(path)
    if kind == 'masks':
        optional = {
            'colours' if rule.colours else 'palette': rule.colours or rule.palette,
            'label_map': rule.label_map,
            'img_suffix': train.img_suffix,
            'seg_map_suffix': train.suffix,
        }
        found |= {name: value for name, value in optional.items() if value}
    return found


def _training(count: int, images: Images, kind: str) -> tuple[dict[str, Any], Rows]:
    """Return the variables of model, sizes and schedule, and rows about them."""
    gpu = torch.cuda.is_available()
    size = ('base' if count >= _MANY else 'small') if gpu else 'tiny'
    name = _TEMPLATES[kind][1].format(size)
    limit = 512 if gpu else 256
    long, short = max(images.size), min(images.size)
    edge = max(_STEP, min(max(short, _SMALLEST), limit) // _STEP * _STEP)
    scale = (-(-edge * long // short // _STEP) * _STEP, edge)
    batch = min(4, count)
    steps = 3000 if gpu else 300
    epochs = max(1, min(200, round(steps * batch / count)))
    found: dict[str, Any] = {'model_name': name}
    if images.bands == 3 and images.max_value is None:
        known: list[Any] = [get_pretrained_cfg_value(name, key) for key in ('mean', 'std')]
        mean, std = ([round(255 * one, 3) for one in values] for values in known)
    else:
        mean, std = images.mean, images.std
        found['load_image'] = {'type': 'LoadBands', 'max_value': images.max_value}
    found |= {'mean': mean, 'std': std, 'scale': scale}
    if kind == TASKS[0]:
        found['crop_size'] = (edge, edge)
    found |= {'batch_size': batch, 'max_epochs': epochs, 'val_interval': max(1, epochs // 5)}
    where = 'this GPU' if gpu else 'CPUs: a trial of minutes; on a GPU call init again there'
    length = f'{epochs} epochs of {-(-count // batch)} steps, for {where}'
    return found, [('model', name), ('input', _size(scale)), ('schedule', length)]


def _load(path: str) -> NDArray[Any]:
    """Read an image as the config will: of 8 bits in three channels, else by `LoadBands`."""
    image = None if path.endswith('.npy') else cv2.imread(path, cv2.IMREAD_UNCHANGED)
    if image is not None and image.dtype == np.uint8:
        is_raster = path.lower().endswith(('.tif', '.tiff'))
        if image.ndim == 2 or image.shape[2] == 3 or not is_raster:
            return cv2.imread(path)  # type: ignore[return-value]
    loaded: NDArray[Any] = LoadBands().transform({'img_path': path})['img']
    return loaded


def _understood(layout: Layout, images: Images) -> Rows:
    rule = layout.encoding
    depth = f'values up to {images.max_value}' if images.max_value else '8 bits'
    rows = [
        ('task', layout.task + (' with masks' if layout.has_masks else '')),
        ('images', f'median {_size(images.size)}, {images.bands} bands, {depth}'),
    ]
    for name, one in layout.splits.items():
        labels = f'{one.labels}/*{one.suffix}' if one.suffix else one.labels
        rows.append((name, f'{len(one.names)} images: {one.images}, {labels}'))
    left_out = {one.images: one.unlabelled for one in layout.splits.values() if one.unlabelled}
    rows += [('left out', f'{n} files without labels in {one}') for one, n in left_out.items()]
    rows.append(('splits', f'by {layout.division}; the config uses train and val'))
    return [*rows, ('masks', rule.kind)] if rule.kind else rows


def _size(size: Sequence[int]) -> str:
    return 'x'.join(map(str, size))


def _config_text(template: str, rows: Rows, variables: dict[str, Any], out: str) -> str:
    """Return a config of at most 40 lines.

    Where that is too little, the docstring is shortened; the palette is left out (the data set
    draws one); and at last every list is in one line, however long.
    """
    plain = {name: value for name, value in variables.items() if name != 'palette'}
    for given, wraps in ((variables, True), (plain, True), (plain, False)):
        body = [f"_base_ = 'vit_dense::{template}'", '']
        body += [f'{name} = {_literal(value, wraps)}' for name, value in given.items()]
        space = _LINES - 4 - sum(one.count('\n') + 1 for one in body)
        if space >= 0:
            break
    found = [textwrap.shorten(f'{name}: {text}', _WIDTH) for name, text in rows][: max(space, 0)]
    head = f'"""Written by vit-dense init: vit-dense train {Path(out).name}'
    return '\n'.join([head, '', *found, '"""', '', *body, ''])


def _literal(value: Any, wraps: bool) -> str:
    """Return a value as Python text; long lists in lines of 100 columns if `wraps`."""
    if isinstance(value, dict) and 'type' in value:
        return f'dict({", ".join(f"{key}={one!r}" for key, one in value.items())})'
    text = repr(value)
    if isinstance(value, str) or not wraps or len(text) < _WIDTH - len('label_map = '):
        return text
    is_table = isinstance(value, dict)
    items = [f'{key}: {one}' for key, one in value.items()] if is_table else map(repr, value)
    # A character that is no space keeps items in one line.
    joined = ' '.join(f'{one},'.replace(' ', '\0') for one in items)
    lines = textwrap.wrap(joined, _WIDTH - 4, break_long_words=False, break_on_hyphens=False)
    rows = [f'    {line}'.replace('\0', ' ') for line in lines]
    return '\n'.join([text[0], *rows, text[-1]])
