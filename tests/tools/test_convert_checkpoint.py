"""`tools/convert_checkpoint.py` on ViTs of any layout."""

import pickle

import pytest
import timm
import torch
from processes import ROOT, run
from safetensors.torch import load_file

from vit_dense.apis import convert_checkpoint

CONVERT = ROOT / 'tools/convert_checkpoint.py'


def test_a_vit_in_its_authors_layout(tmp_path):
    torch.manual_seed(0)
    source = timm.create_model('vit_tiny_patch16_224', depth=2, num_classes=7, img_size=96)
    torch.save({'model': source.state_dict(), 'epoch': 3}, tmp_path / 'deit.pth')
    done = run(CONVERT, 'deit.pth', 'out/vit.safetensors', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "recognised: timm's names, which DeiT, MAE and DINO share" in done.stdout
    assert 'as vit_tiny_patch16_224 with' in done.stdout
    assert '0 missing, 0 unexpected, 2 ignored' in done.stdout
    expected = {k: t for k, t in source.state_dict().items() if not k.startswith('head')}
    converted = load_file(tmp_path / 'out/vit.safetensors')
    assert converted.keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in converted.items())


class Evil:
    """Runs code when it is unpickled by a careless reader."""

    def __reduce__(self):
        return eval, ("open('touched', 'w').close()",)


def test_a_crafted_pickle_is_harmless(tmp_path):
    (tmp_path / 'evil.pth').write_bytes(pickle.dumps({'state_dict': Evil()}))
    torch.save({'state_dict': {'backbone.spm.stem.0.weight': Evil()}}, tmp_path / 'zip.pth')
    for name in ('evil.pth', 'zip.pth'):
        done = run(CONVERT, name, 'out.pth', cwd=tmp_path)
        assert done.returncode == 2, done.stderr
        assert f"Error: checkpoint '{name}'" in done.stderr
    assert not (tmp_path / 'touched').exists()
    assert not (tmp_path / 'out.pth').exists()


def test_destinations_that_are_refused(tmp_path):
    path = str(tmp_path / 'vit.pth')
    torch.save(timm.create_model('vit_tiny_patch16_224', depth=1).state_dict(), path)
    with pytest.raises(ValueError, match=r'out\.npz: write to a file that ends in \.pth'):
        convert_checkpoint(path, str(tmp_path / 'out.npz'))
    with pytest.raises(ValueError, match='is the source itself'):
        convert_checkpoint(path, path)


def test_nothing_is_made_up_and_no_adapter_is_lost(tmp_path):
    source = timm.create_model('vit_tiny_patch16_224', depth=2, num_classes=0, img_size=96)
    state = {name: t for name, t in source.state_dict().items() if not name.startswith('norm.')}
    path, out = str(tmp_path / 'vit.pth'), str(tmp_path / 'out.pth')
    torch.save(state, path)
    report = convert_checkpoint(path, out)
    assert report.missing == []
    assert torch.load(out).keys() == state.keys()
    with pytest.raises(ValueError, match='both name the architecture: give one'):
        convert_checkpoint(path, out, model_name='vit_tiny_patch16_224', config='x.py')
    torch.save({**state, 'interactions.0.injector.gamma': torch.ones(4)}, path)
    with pytest.raises(ValueError, match=r'holds an adapter .*not recognised as released'):
        convert_checkpoint(path, out, model_name='vit_tiny_patch16_224')


def test_a_config_s_own_options_count(tmp_path):
    """Its ViT may take a file in part, or have LoRA; `peft` is not needed for that."""
    source = timm.create_model('vit_tiny_patch16_224', depth=4, num_classes=0)
    path, out = str(tmp_path / 'vit.pth'), str(tmp_path / 'out.pth')
    torch.save(source.state_dict(), path)
    base = str(ROOT / 'configs/vit_upernet_demo.py')
    vit = "model_name='vit_tiny_patch16_224', checkpoint={checkpoint}, model_kwargs=dict({kwargs})"

    def config(kind, checkpoint, kwargs):
        text = vit.format(checkpoint=checkpoint, kwargs=kwargs)
        file = tmp_path / 'config.py'
        file.write_text(
            f'_base_ = {base!r}\n'
            f'model = dict(backbone=dict(deform_num_heads=3,\n'
            f'    vit=dict(_delete_=True, type={kind!r}, {text})))\n'
        )
        return str(file)

    with pytest.raises(ValueError, match='at least 90%'):
        convert_checkpoint(path, out, config=config('TimmViT', None, 'depth=5'))
    partly = "dict(path='vit.pth', min_matched=0)"
    report = convert_checkpoint(path, out, config=config('TimmViT', partly, 'depth=5'))
    assert any(name.startswith('blocks.4.') for name in report.missing)
    lora = "None, rank=4, targets=['qkv']"
    report = convert_checkpoint(path, out, config=config('LoRATimmViT', lora, 'depth=4'))
    assert report.missing == []
    assert torch.equal(
        torch.load(out)['blocks.2.attn.qkv.weight'], source.blocks[2].attn.qkv.weight
    )
