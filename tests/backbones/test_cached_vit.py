"""CachedTimmViT: the values of a frozen TimmViT, computed once and kept on disk."""

import random
import shutil
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS
from mmengine.runner import Runner
from noisy_training import assert_same, noisy_config
from processes import in_two_processes
from torch.utils.data import Dataset

import vit_dense  # noqa: F401 - registers
from vit_dense.backbones import CachedTimmViT, cached_vit

BACKBONES: dict[str, dict[str, Any]] = {
    'PlainViT': {'num_maps': 2, 'output_cls_token': True},
    'SimpleFeaturePyramid': {},
    'ViTAdapter': {'inject': False, 'deform_num_heads': 4},
}


def build(folder: Path, kind: str = 'PlainViT', images: int = 10, **vit: Any) -> Any:
    options = BACKBONES[kind] if not vit else {}
    vit = {'type': 'CachedTimmViT', 'model_name': 'test_vit', 'cache_dir': str(folder), **vit}
    torch.manual_seed(1)  # the same weights each time
    model = MODELS.build({'type': kind, **options, 'vit': vit}).train()
    if images:
        model.vit.open_cache(images)
    return model


def entries(folder: Path) -> list[Path]:
    return sorted(folder.rglob('*.npy'))


def flat(maps: Any) -> torch.Tensor:
    parts = [y for x in maps for y in (x if isinstance(x, tuple) else [x])]
    return torch.cat([x.detach().flatten() for x in parts])


@pytest.mark.parametrize('kind', BACKBONES)
def test_values_are_the_frozen_vits(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, image = build(tmp_path, kind), torch.randn(3, 3, 50, 70)
    model.vit.close_cache()
    expected = flat(model(image))
    assert not entries(tmp_path)
    model.vit.open_cache(10)
    first = flat(model(image))
    assert len(entries(tmp_path)) == 3
    rounding = 2**-10 * expected.abs().max()
    assert 0 < (first - expected).abs().max() < rounding
    monkeypatch.setattr(model.vit, 'embed', None)  # nothing is computed again
    assert torch.equal(flat(model(image)), first)
    assert torch.equal(flat(model.eval()(image)), flat(model(image.clone())))


def test_only_new_images_are_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, image = build(tmp_path), torch.randn(4, 3, 32, 32)
    image[3] = image[1]
    first = flat(model(image[[1]])).clone()
    sizes: list[int] = []
    embed = model.vit.embed
    monkeypatch.setattr(model.vit, 'embed', lambda x: sizes.append(len(x)) or embed(x))
    maps = model(image)
    assert sizes == [2], 'the images 0 and 2'
    assert torch.equal(flat([(a[1:2], b[1:2]) for a, b in maps]), first)
    assert torch.equal(flat([(a[3:4], b[3:4]) for a, b in maps]), first)


def test_everything_that_matters_is_in_the_key(tmp_path: Path) -> None:
    image = torch.randn(1, 3, 48, 48)
    build(tmp_path)(image)
    for vit in ({'final_norm': True}, {'window_size': 2}, {'model_kwargs': {'patch_size': 8}}):
        count = len(entries(tmp_path))
        build(tmp_path, **vit)(image)
        assert len(entries(tmp_path)) == count + 1, vit
    count = len(entries(tmp_path))
    padded = torch.nn.functional.pad(image, (0, 16))
    model = build(tmp_path)
    model(padded)
    assert len(entries(tmp_path)) == count + 1
    with torch.autocast('cpu', torch.bfloat16):
        rounded = flat(model(padded))
    assert len(entries(tmp_path)) == count + 2
    with torch.autocast('cpu', torch.float16):
        assert not torch.equal(flat(model(padded)), rounded)
    assert len(entries(tmp_path)) == count + 3
    assert len({file.parent for file in entries(tmp_path)}) == 4, 'weights and settings'


def test_another_version_has_a_folder_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, image = build(tmp_path), torch.randn(1, 3, 32, 32)
    model(image)
    monkeypatch.setattr(cached_vit, '__version__', '99')
    build(tmp_path)(image)
    assert len({file.parent for file in entries(tmp_path)}) == 2


def test_mixed_precision_has_entries_of_its_own(tmp_path: Path) -> None:
    model, image = build(tmp_path), torch.randn(1, 3, 48, 48)
    model.vit.close_cache()
    expected = flat(model(image))
    model.vit.open_cache(10)
    with torch.autocast('cpu', torch.bfloat16):
        mixed = flat(model(image))
    bound = 2**-10 * expected.abs().max()
    assert (mixed - expected).abs().max() > bound
    assert (flat(model(image)) - expected).abs().max() < bound


def test_loaded_weights_have_a_folder_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(cached_vit, 'print_log', lambda text, **_: said.append(text))
    model, image = build(tmp_path), torch.randn(1, 3, 32, 32)
    old, before = {k: v.clone() for k, v in model.state_dict().items()}, flat(model(image))
    new = {name: value + 0.5 for name, value in old.items()}
    model.load_state_dict(new)
    after = flat(model(image))
    assert (after - before).abs().max() > 0.1
    assert len([*tmp_path.iterdir()]) == 2
    name = entries(tmp_path)[0].parent.name
    others = [text for text in said if 'not used' in text]
    assert len(others) == 1
    assert 'test_vit-' in others[0]
    assert 'Delete' in others[0]
    assert name.startswith('test_vit-')
    model.load_state_dict(old)
    monkeypatch.setattr(model.vit, 'embed', None)
    assert torch.equal(flat(model(image)), before)


@pytest.mark.parametrize('left', [0, 7, 500, -1])
def test_damaged_entries_are_computed_again(left: int, tmp_path: Path) -> None:
    model, image = build(tmp_path), torch.randn(1, 3, 32, 32)
    first = flat(model(image)).clone()
    (entry,) = entries(tmp_path)
    whole = entry.read_bytes()
    entry.unlink()  # not shortened in place, under the map of an earlier reader
    entry.write_bytes(whole[:left])
    assert torch.equal(flat(model(image)), first)
    assert entry.read_bytes() == whole


def test_a_kill_before_the_rename_leaves_no_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, image = build(tmp_path), torch.randn(2, 3, 32, 32)
    model(image[:1])
    with monkeypatch.context() as patch:
        patch.setattr(Path, 'replace', lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            model(image)
    assert len(entries(tmp_path)) == 1
    model(image)
    assert len(entries(tmp_path)) == 2
    assert not [*tmp_path.rglob('*.tmp')]


def test_two_processes_share_a_folder(tmp_path: Path) -> None:
    model, image = build(tmp_path / 'cache', images=100), torch.randn(12, 3, 32, 32)

    def work(rank: int) -> torch.Tensor:
        torch.distributed.barrier()
        for i in range(12):
            model(image[[i, (i + rank) % 12]])
        return flat(model(image))

    with torch.no_grad():
        one, other = in_two_processes(work, tmp_path)
    assert torch.equal(one, other)
    assert len(entries(tmp_path)) == 12
    assert not [*tmp_path.rglob('*.tmp')]


def test_values_beyond_half_precision(tmp_path: Path) -> None:
    model, image = build(tmp_path), torch.randn(1, 3, 32, 32)
    model.vit.model.pos_embed.data[:] = 1e5
    with pytest.raises(ValueError, match=r'up to 1\S*e\+05 cannot be cached.*final_norm=True'):
        model(image)
    assert not entries(tmp_path)


def test_a_disk_that_is_too_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, image = build(tmp_path, images=1000), torch.randn(1, 3, 32, 32)
    size = 1000 * 2 * 5 * 64 * 2  # images, taps, tokens, channels, bytes
    usage = shutil._ntuple_diskusage
    monkeypatch.setattr(shutil, 'disk_usage', lambda _: usage(0, 0, size - 1))
    with pytest.raises(ValueError, match=r'0\.00 GB in .*Lower `views`.*cache_dir'):
        model(image)
    monkeypatch.setattr(shutil, 'disk_usage', lambda _: usage(0, 0, size))
    model(image)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / 'file').touch()
    with pytest.raises(ValueError, match=r"cache_dir='.*/file' cannot be written: Not a directory"):
        build(tmp_path / 'file')(torch.randn(1, 3, 32, 32))


def test_a_disk_that_becomes_full_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(cached_vit, 'print_log', lambda text, **_: said.append(text))
    model, image = build(tmp_path), torch.randn(2, 3, 32, 32)
    first = flat(model(image[:1])).clone()

    def write(*_: Any) -> None:
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(cached_vit, '_write', write)
    maps = model(image)
    assert torch.equal(flat([(a[:1], b[:1]) for a, b in maps]), first)
    assert 'No space left on device. Caching ends.' in said[-1]
    assert not model.vit.is_caching
    assert torch.isfinite(flat(model(image))).all()


def test_images_that_never_return_end_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(cached_vit, 'print_log', lambda text, **_: said.append(text))
    model = build(tmp_path, images=3)
    with torch.no_grad():
        model.eval()(torch.randn(5, 3, 32, 32))  # validation is not limited
    model.train()(torch.randn(3, 3, 32, 32))
    assert model.vit.is_caching
    model(torch.randn(1, 3, 32, 32))
    assert not model.vit.is_caching
    assert 'more than 3 different images' in said[-1]
    assert 'BatchFixedSizePad' in said[-1]


def test_mistakes_are_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r'frozen_stages=2 .*set frozen_stages=6'):
        CachedTimmViT('test_vit', frozen_stages=2)
    for kind in ('ViTAdapter', 'ViTCoMer'):
        with pytest.raises(ValueError, match=rf'under {kind}.*inject=False'):
            MODELS.build({'type': kind, 'vit': {'type': 'CachedTimmViT', 'model_name': 'test_vit'}})
    model = build(tmp_path)
    next(model.parameters()).requires_grad_()
    assert not model.vit.is_caching, 'its values would change'


@pytest.mark.slow
def test_compiled(tmp_path: Path) -> None:
    model, image = build(tmp_path), torch.randn(2, 3, 32, 32)
    expected = flat(model(image))
    assert torch.equal(flat(torch.compile(model, backend='eager')(image)), expected)


@DATASETS.register_module()
class NoisyImages(Dataset):
    """Four grey images with noise of three generators; each has its mean as the label."""

    metainfo: ClassVar[dict[str, Any]] = {'classes': ('one',)}

    def full_init(self) -> None:
        """Has nothing to read."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> dict[str, Any]:
        noise = random.random() + np.random.rand() + torch.rand(()).item()
        return {'inputs': torch.full((3, 32, 32), index / 4 + noise), 'number': index}


@MODELS.register_module()
class FrozenAndLinear(BaseModel):
    """A linear layer on a frozen backbone, with dropout."""

    def __init__(self, backbone: dict[str, Any]) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.backbone = MODELS.build(backbone)
        self.head = torch.nn.Linear(64, 1)

    def forward(self, inputs: list[torch.Tensor], number: list[int], mode: str) -> Any:
        (x,) = self.backbone(torch.stack(inputs))
        if mode != 'loss':
            return [{'loss': 0.0}]
        found = self.head(torch.dropout(x.mean((2, 3)), 0.5, self.training))
        return {'loss': (found[:, 0] - torch.tensor(number)).square().mean()}


def config(work: Path, cache: Path, **changes: Any) -> dict[str, Any]:
    found = noisy_config(work, **changes)
    vit = {'type': 'CachedTimmViT', 'model_name': 'test_vit', 'cache_dir': str(cache)}
    found['model'] = {'type': 'FrozenAndLinear', 'backbone': {'type': 'PlainViT', 'vit': vit}}
    views = {'type': 'FixedViews', 'views': 3, 'dataset': {'type': 'NoisyImages'}}
    found['train_dataloader']['dataset'] = views
    found['default_hooks']['feature_cache'] = {'type': 'FeatureCacheHook'}
    return found


def test_a_training_computes_each_view_once(tmp_path: Path) -> None:
    """Persistent workers and InfiniteSampler; 26 samples of 12 views, more than two epochs."""
    whole = Runner(**config(tmp_path / 'a', tmp_path / 'cache', workers=2))
    whole.train()
    assert len(whole.train_dataloader.dataset) == 12
    assert len(entries(tmp_path / 'cache')) == 12
    vit = whole.model.backbone.vit
    assert not vit.is_caching
    whole.model(**{'inputs': [torch.ones(3, 32, 32)], 'number': [0], 'mode': 'predict'})
    assert len(entries(tmp_path / 'cache')) == 12, 'predictions write nothing'

    # Resumed in this process, on an empty cache: the same weights.
    state = {'load_from': str(tmp_path / 'a/iter_5.pth'), 'resume': True}
    Runner(**config(tmp_path / 'b', tmp_path / 'new', **state)).train()
    assert_same(tmp_path / 'a/iter_13.pth', tmp_path / 'b/iter_13.pth')
    names = {path.parent.name for path in entries(tmp_path)}
    assert len(names) == 1, 'the checkpoint has the same frozen weights'


def test_validation_is_cached(tmp_path: Path) -> None:
    changes = config(tmp_path / 'a', tmp_path / 'cache')
    loader = {**changes['train_dataloader'], 'sampler': {'type': 'DefaultSampler'}}
    loader['dataset'] = {
        'type': 'FixedViews',
        'views': 1,
        'seed': 5,
        'dataset': {'type': 'NoisyImages'},
    }
    changes |= {'val_dataloader': loader, 'val_cfg': {}, 'val_evaluator': []}
    changes['train_cfg'] = {'by_epoch': False, 'max_iters': 8, 'val_interval': 2}
    Runner(**changes).train()
    assert len(entries(tmp_path / 'cache')) == 12 + 4


def test_free_augmentation_is_refused(tmp_path: Path) -> None:
    changes = config(tmp_path / 'a', tmp_path / 'cache')
    changes['train_dataloader']['dataset'] = {'type': 'NoisyImages'}
    with pytest.raises(ValueError, match=r"data set NoisyImages: .*type='FixedViews', views=4"):
        Runner(**changes).train()


def test_a_sharded_vit_is_refused(tmp_path: Path) -> None:
    runner = Runner(**config(tmp_path / 'a', tmp_path / 'cache'))
    runner.__class__ = type('ShardedRunner', (Runner,), {})
    with pytest.raises(ValueError, match=r"runner_type='ShardedRunner'.*Leave runner_type out"):
        runner.train()


def test_an_error_closes_the_cache(tmp_path: Path) -> None:
    runner = Runner(**config(tmp_path / 'a', tmp_path / 'cache'))
    runner.model.head.forward = None
    with pytest.raises(TypeError):
        runner.train()
    assert not runner.model.backbone.vit.is_caching
