"""Exported checkpoints: plain names, the same predictions, nothing of the training."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS

import vit_dense  # noqa: F401 - registers
from vit_dense.apis import merge_checkpoint

VIT = {'type': 'TimmViT', 'model_name': 'test_vit'}
LORA = {'type': 'LoRATimmViT', 'model_name': 'test_vit', 'rank': 4, 'targets': ['qkv']}


def config_of(vit: dict) -> Config:
    return Config({'model': {'type': 'SimpleFeaturePyramid', 'vit': vit, 'out_channels': 8}})


def trained(config: Config, folder: Path, **content: object) -> tuple[torch.nn.Module, str]:
    """A model with no parameter at zero, and the checkpoint that a runner would have written."""
    model = MODELS.build(config.model).eval()
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    path = folder / 'iter_8.pth'
    meta = {'iter': 8, 'seed': 3, 'dataset_meta': {'classes': ('a', 'b')}, 'cfg': 'old'}
    torch.save({'state_dict': model.state_dict(), 'meta': meta, **content}, path)
    return model, str(path)


def test_lora_is_merged_and_predicts_the_same(tmp_path: Path) -> None:
    pytest.importorskip('peft', reason='the extra [peft] is not installed')
    config = config_of(LORA)
    model, path = trained(config, tmp_path, optimizer={'state': {}}, message_hub={})
    out = str(tmp_path / 'out.pth')
    assert merge_checkpoint(config, path, out)['merged'] == 6
    content = torch.load(out, weights_only=True)
    assert content.keys() == {'state_dict', 'meta'}
    plain = MODELS.build(config_of(VIT).model).eval()
    plain.load_state_dict(content['state_dict'])
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        for found, expected in zip(plain(image), model(image), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert content['meta']['dataset_meta'] == {'classes': ('a', 'b')}
    assert 'iter' not in content['meta']
    written = Config.fromstring(content['meta']['cfg'], '.py')
    assert written.model == ConfigDict(config_of(VIT).model)
    assert config.model.vit.type == 'LoRATimmViT', "the caller's config is left as it was"


def test_without_lora_the_weights_are_those_of_the_file(tmp_path: Path) -> None:
    config = config_of(VIT)
    model, path = trained(config, tmp_path, ema_state_dict={'module.x': torch.zeros(1)})
    out = str(tmp_path / 'out.pth')
    done = merge_checkpoint(config, path, out)
    expected = model.state_dict()
    assert done == {'tensors': len(expected), 'merged': 0}
    found = torch.load(out, weights_only=True)['state_dict']
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_mistakes_are_told(tmp_path: Path) -> None:
    config = config_of(VIT)
    _, path = trained(config, tmp_path)
    with pytest.raises(ValueError, match='name another file'):
        merge_checkpoint(config, path, path)
    with pytest.raises(ValueError, match=r'not found: .*iter_9\.pth.*iter_8\.pth'):
        merge_checkpoint(config, str(Path(path).with_name('iter_9.pth')), 'out.pth')
    config.model.norm = 'BN'
    with pytest.raises(ValueError, match=r'\d+ of \d+ tensors are missing(?s:.*)Give the config'):
        merge_checkpoint(config, path, str(tmp_path / 'out.pth'))
    assert not (tmp_path / 'out.pth').exists()


def test_where_it_is_written(tmp_path: Path) -> None:
    config = config_of(VIT)
    _, path = trained(config, tmp_path)
    with pytest.raises(ValueError, match=r'ends in \.pth or \.pt'):
        merge_checkpoint(config, path, str(tmp_path / 'out.safetensors'))
    merge_checkpoint(config, path, str(tmp_path / 'new' / 'out.pth'))
    assert (tmp_path / 'new' / 'out.pth').is_file()
