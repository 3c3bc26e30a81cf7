"""Damaged and odd weight files: the right values are loaded, or one clear error says why not."""

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from fuzz_cases import cases, numbers, refusal
from mmengine.runner.checkpoint import _load_checkpoint
from safetensors.torch import save_file
from small_vits import randomise

from vit_dense.engine.checkpoint_check import fit_checkpoint
from vit_dense.weights import load_pyramid_weights, load_vit_weights

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings('ignore:.*(pickle|[Cc]omplex|TypedStorage|[Ss]parse|nested)'),
]
Tensors = dict[str, torch.Tensor]


class Code:
    """A pickle that runs a command when it is loaded."""

    def __reduce__(self) -> Any:
        return os.mkdir, ('executed',)


def save(content: Any, layout: str, folder: Path) -> Path:
    """Writes a file, or a folder, of one layout."""
    path = folder / f'weights{layout.removeprefix("legacy")}'
    if layout in ('.pth', 'legacy.pth'):
        torch.save(content, path, _use_new_zipfile_serialization=layout == '.pth')
    elif layout == '.safetensors':
        save_file({k: t.contiguous().clone() for k, t in content.items()}, path)
    elif layout == '.npz':
        np.savez(path, **{k: t.numpy() for k, t in content.items()})
    else:
        path = folder / 'weights'
        path.mkdir()
        names = list(content)
        for i, part in enumerate((names[::2], names[1::2])):
            save({k: content[k] for k in part}, '.safetensors', path).rename(
                path / f'{i}.safetensors'
            )
        places = {name: f'{i % 2}.safetensors' for i, name in enumerate(names)}
        (path / 'model.safetensors.index.json').write_text(json.dumps({'weight_map': places}))
    return path


def _damage(data: bytearray, draw: random.Random) -> bytes:
    """Returns the bytes of a file after one kind of damage."""
    start = (
        draw.randrange(len(data)) if draw.random() < 0.6 else draw.randrange(min(200, len(data)))
    )
    length = draw.choice((1, 8, 400, 5000))
    kind = draw.choice(('cut', 'flip', 'zero', 'repeat', 'remove', 'append', 'number'))
    if kind == 'cut':
        del data[start:]
    elif kind == 'flip':
        for _ in range(length):
            data[draw.randrange(start, len(data))] ^= 1 << draw.randrange(8)
    elif kind == 'zero':
        data[start : start + length] = bytes(len(data[start : start + length]))
    elif kind == 'repeat':
        data[start:start] = data[start : start + length]
    elif kind == 'remove':
        del data[start : start + length]
    elif kind == 'append':
        data += draw.randbytes(length)
    else:  # an absurd size
        data[start : start + 8] = b'\xff' * 7 + b'\x7f'
    return bytes(data)


def _one(change: Callable[[torch.Tensor], Any]) -> Callable[[Tensors, random.Random], Any]:
    def work(state: Tensors, draw: random.Random) -> Any:
        name = draw.choice(list(state))
        return {**state, name: change(state[name])}

    return work


def _every(change: Callable[[torch.Tensor], Any]) -> Callable[[Tensors, random.Random], Any]:
    return lambda state, _: {name: change(tensor) for name, tensor in state.items()}


def _nest(state: Any, draw: random.Random) -> Any:
    for _ in range(draw.choice((1, 2, 60))):
        state = {
            draw.choice(('state_dict', 'model', 'teacher', 'state_dict_ema')): state,
            'epoch': 3,
        }
    return state


def _prefix(state: Tensors, draw: random.Random) -> Tensors:
    prefix = draw.choice(('module.', 'model.', 'backbone.', 'a.b.'))
    return {prefix + name: tensor for name, tensor in state.items()}


def _rename(state: Tensors, draw: random.Random) -> Tensors:
    old = draw.choice(list(state))
    new = draw.choice((old[1:], old + '.x', old.replace('.', '/'), 'a' * 300, ''))
    return {new if name == old else name: tensor for name, tensor in state.items()}


EMPTY = ({}, {'state_dict': {}}, {'model': None}, {'state_dict': [1]}, {'state_dict': None})
# Every kind of content, and whether it must load ('same'), must not ('refused') or may ('').
CONTENTS: dict[str, tuple[Callable[[Tensors, random.Random], Any], str]] = {
    'unchanged': (lambda s, d: s, 'same'),
    'prefix': (_prefix, 'same'),
    'nested': (_nest, 'same'),
    'classifier': (lambda s, d: s | {'head.fc.weight': torch.ones(10, 8)}, 'same'),
    'half': (_every(torch.Tensor.half), 'same'),
    'bfloat16': (_every(torch.Tensor.bfloat16), 'same'),
    'double': (_every(torch.Tensor.double), 'same'),
    'parameters': (_every(torch.nn.Parameter), 'same'),
    'one NaN': (_one(lambda t: torch.full_like(t, float('nan'))), 'refused'),
    'one infinity': (_one(lambda t: torch.full_like(t, float('inf'))), 'refused'),
    'integers': (_every(torch.Tensor.int), 'refused'),
    'complex': (_every(lambda t: t.to(torch.complex64)), 'refused'),
    'one boolean': (_one(torch.Tensor.bool), 'refused'),
    'one sparse': (_one(torch.Tensor.to_sparse), ''),
    'one on meta': (_one(lambda t: t.to('meta')), 'refused'),
    'one quantised': (_one(lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8)), 'refused'),
    'one flat': (_one(lambda t: t.flatten()[None, None]), ''),
    'one empty': (_one(lambda t: t[:0]), 'refused'),
    'one scalar': (_one(lambda t: t.sum()), 'refused'),
    'one doubled': (_one(lambda t: torch.cat((t, t))), ''),
    'one text': (_one(str), 'refused'),
    'one array': (_one(lambda t: t.numpy()), ''),
    'one list': (_one(torch.Tensor.tolist), 'refused'),
    'one dict': (_one(lambda t: {'weight': t}), 'refused'),
    'one code': (_one(lambda t: Code()), 'refused'),
    'rename': (_rename, ''),
    'without half': (lambda s, d: {k: s[k] for k in d.sample(sorted(s), len(s) // 2)}, 'refused'),
    'numbers as names': (lambda s, d: dict(enumerate(s.values())), 'refused'),
    'two prefixes': (lambda s, d: {p + k: t for p in ('a.', 'b.') for k, t in s.items()}, ''),
    'empty': (lambda s, d: d.choice(EMPTY), 'refused'),
    'no dict': (lambda s, d: d.choice(([s], 'x', None, 3, torch.ones(3))), 'refused'),
    'a program': (lambda s, d: d.choice((Code(), {'state_dict': s, 'args': Code()})), 'refused'),
    'a module': (lambda s, d: torch.nn.Linear(2, 2), 'refused'),
}  # fmt: skip
LAYOUTS = ('.pth', 'legacy.pth', '.safetensors', '.npz', 'folder')
NO_CHECKSUM = ('legacy.pth', '.safetensors', 'folder')


def load_vit(model: Any, path: Path) -> None:
    load_vit_weights(model, path)


def load_pyramid(model: Any, path: Path) -> None:
    load_pyramid_weights(model, path, whole=timm.create_model('test_convnext'))


def load_whole(model: Any, path: Path) -> None:
    content = _load_checkpoint(str(path), map_location='cpu')
    fit_checkpoint(content, model)
    model.load_state_dict(content.get('state_dict', content), strict=False)


def build(name: str, seed: int) -> torch.nn.Module:
    return randomise(timm.create_model(name, num_classes=0), seed)


@cases(190)
def test_random_weight_files(case: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    draw = numbers('weights', case)
    load = draw.choice((load_vit, load_vit, load_pyramid, load_whole))
    name = 'test_convnext' if load is load_pyramid else 'test_vit'
    state, model = build(name, 1).state_dict(), build(name, 2)
    before = {k: t.clone() for k, t in model.state_dict().items()}
    if draw.random() < 0.5:
        what, expected, layout = 'damage', '', draw.choice(LAYOUTS)
        path = save(state, layout, tmp_path)
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        victim = draw.choice(files)
        if path.is_dir() and draw.random() < 0.2:
            victim.unlink()
        else:
            victim.write_bytes(_damage(bytearray(victim.read_bytes()), draw))
    else:
        what, layout = draw.choice(list(CONTENTS)), draw.choice(('.pth', 'legacy.pth'))
        change, expected = CONTENTS[what]
        path = save(change(state, draw), layout, tmp_path)
    if load is load_whole and (path.is_dir() or layout == '.npz' or what in ('nested', 'prefix')):
        expected = ''
    label = f'{what} in {layout} by {load.__name__}'
    message = refusal(lambda: load(model, path), label)
    after = model.state_dict()
    assert not Path('executed').exists(), label
    if message is not None:
        assert expected != 'same', f'{label}: {message}'
        assert all(torch.equal(before[k], t) for k, t in after.items()), f'{label}: half loaded'
        return
    assert expected != 'refused', f'{label}: loaded'
    assert all(t.isfinite().all() for t in after.values()), f'{label}: not finite'
    if layout not in NO_CHECKSUM or what != 'damage':
        wrong = [k for k, t in after.items() if not torch.allclose(t, state[k], atol=1e-2)]
        wrong = [k for k in wrong if not torch.equal(after[k], before[k])]  # left out of the file
        assert not wrong, f'{label}: {wrong}'
