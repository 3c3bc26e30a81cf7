"""A tiny pretraining from a config: resumed, drawn, probed, and its file used everywhere."""

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import MODELS
from noisy_training import assert_same
from safetensors import safe_open

from examples.streets import DemoSpec, write_demo_dataset
from vit_dense.apis import convert_checkpoint, load_config, train_model
from vit_dense.apis.plots import draw_runs
from vit_dense.apis.runs import read_run
from vit_dense.backbones import TimmViT
from vit_dense.pretraining.pictures_hook import draw_reconstruction
from vit_dense.weights import load_vit_weights

LEAF = 'pretraining/mae_vit-t8-cpu_1xb32-200e_images-128x128.py'
TEXT = f"""
_base_ = 'vit_dense::{LEAF}'
data_root = ['data/images/training', 'data/images/validation']
probe_root = 'data'
image_size = 64
batch_size = 4
num_workers = 0
max_epochs = 4
warm_up = 1
val_interval = 2
model_name = 'test_vit'
model = dict(vit=dict(model_kwargs=dict(depth=2)), decoder=dict(width=32, depth=1, heads=2))
default_hooks = dict(logger=dict(interval=1))
"""


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, a config, and a training of 4 epochs of 4 steps with a probe after every second."""
    folder = tmp_path_factory.mktemp('pretraining')
    write_demo_dataset(folder / 'data', DemoSpec(9, 6, 64, 80))
    (folder / 'small.py').write_text(TEXT)
    pretrain(folder, 'whole')
    return folder


def pretrain(folder: Path, name: str, *, resume: str | None = None, **options: Any) -> Any:
    places = {
        'data_root': [str(folder / f'data/images/{one}') for one in ('training', 'validation')],
        'probe_root': str(folder / 'data'),
        # They live on by these names, for all trainings of a process.
        'visualizer.name': name,
        'experiment_name': name,
    }
    config = load_config(
        str(folder / 'small.py'), work_dir=str(folder / name), cfg_options=places | options
    )
    return train_model(config, resume=resume, seed=0)


def test_a_resumed_pretraining_equals_an_uninterrupted_one(folder: Path) -> None:
    """With and without a probe, which changes nothing."""
    (folder / 'halves').mkdir()
    shutil.copy(folder / 'whole/epoch_2.pth', folder / 'halves')
    pretrain(folder, 'halves', resume=str(folder / 'halves/epoch_2.pth'), probe_root='')
    assert_same(folder / 'whole/epoch_4.pth', folder / 'halves/epoch_4.pth')


def test_curves_of_loss_and_probe_are_drawn(folder: Path) -> None:
    run = read_run(folder / 'whole')
    assert run.curves['loss'][0] == list(range(1, 17))
    assert np.mean(run.curves['loss'][1][-4:]) < np.mean(run.curves['loss'][1][:4])
    for name in ('probe/knn', 'probe/linear', 'probe/majority'):
        assert run.curves[name][0] == [8, 16]
        assert all(0 < value <= 100 for value in run.curves[name][1])
    draw_runs([run], folder / 'curves.png')
    assert (folder / 'curves.png').is_file()


def test_pictures_have_the_same_crops_each_time(folder: Path) -> None:
    sheets = [cv2.imread(str(folder / f'whole/pictures/iter_{n}.png')) for n in (8, 16)]
    np.testing.assert_array_equal(*[sheet[4:68, 4:136] for sheet in sheets])
    assert (sheets[0] != sheets[1]).any(), 'the reconstruction'
    masked = [sheets[0][4:68, start : start + 64] for start in (72, 276)]
    grey = [(one == one[..., :1]).all(2).reshape(4, 16, 4, 16).all((1, 3)) for one in masked]
    assert [one.sum() for one in grey] == [12, 12]
    assert (grey[0] != grey[1]).any(), 'each image has a mask of its own'


def test_a_picture_shows_original_masked_and_reconstructed(folder: Path) -> None:
    config = load_config(str(folder / 'small.py'))
    config.model.vit.drop_path_rate = 0.9
    model = MODELS.build(config.model).train()
    image = np.random.default_rng(0).integers(70, 256, (3, 64, 64), np.uint8)
    torch.manual_seed(0)
    picture = draw_reconstruction(model, torch.from_numpy(image))
    torch.manual_seed(0)
    np.testing.assert_array_equal(picture, draw_reconstruction(model, torch.from_numpy(image)))
    assert model.vit.training, 'as before'
    with pytest.raises(ValueError, match='multiples of 16'):
        draw_reconstruction(model, torch.from_numpy(image[:, :60]))
    assert model.vit.training, 'after an error, too'
    parts = [picture[:, start : start + 64] for start in (0, 68, 136)]
    original, masked, predicted = parts
    np.testing.assert_array_equal(original, image[::-1].transpose(1, 2, 0))  # B, G, R was given
    hidden = (masked != original).any(2).reshape(4, 16, 4, 16).any((1, 3))
    assert hidden.sum() == 12
    pixels = hidden.repeat(16, 0).repeat(16, 1)
    np.testing.assert_array_equal(predicted[~pixels], original[~pixels])
    assert len(np.unique(masked[pixels])) == 1
    assert len(np.unique(predicted[pixels])) > 20


def test_the_file_is_one_for_vit_checkpoint(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = folder / 'whole/epoch_4.pth'
    state = torch.load(path)['state_dict']
    kwargs = {'depth': 2, 'img_size': 96}
    vit = TimmViT('test_vit', checkpoint=str(path), model_kwargs=kwargs, final_norm=True)
    report = load_vit_weights(vit.model, path)
    assert (report.missing, report.unexpected, report.matched) == ([], [], 1.0)
    vit.init_weights()
    for name, tensor in vit.model.state_dict().items():
        if name != 'pos_embed':
            assert torch.equal(tensor, state[f'vit.model.{name}']), name
    decoder = sum(name.startswith('decoder.') for name in state)
    assert report.outside == decoder > 0
    text = str(report)
    assert "this package's masked autoencoder" in text
    assert 'pretrained on masked pixels; the decoder is left out' in text
    other = TimmViT('vit_tiny_patch16_224', checkpoint=str(path), model_kwargs={'depth': 2})
    with pytest.raises(ValueError, match='does not fit'):
        other.init_weights()
    heads = TimmViT('test_vit', checkpoint=str(path), model_kwargs={'depth': 2, 'num_heads': 4})
    with pytest.raises(
        ValueError, match=r"'depth': 2}, and the model is 'test_vit' with .*'num_heads': 4"
    ):
        heads.init_weights()


RECORD = {
    'model_name': 'test_vit',
    'model_kwargs': {'in_chans': 3, 'depth': 2},
    'objective': 'masked pixels',
    'mask_ratio': 0.75,
    'mean': [127.5] * 3,
    'std': [127.5] * 3,
    'images': 15,
    'iterations': 16,
}


def test_convert_keeps_the_record(folder: Path) -> None:
    source = str(folder / 'whole/epoch_4.pth')
    assert torch.load(source)['meta']['pretraining'] == RECORD
    target = str(folder / 'vit.safetensors')
    report = convert_checkpoint(source, target)
    assert report.notes[-1] == f'as test_vit with {RECORD["model_kwargs"]}'
    with safe_open(target, 'pt') as file:
        metadata = file.metadata()
        names = set(file.keys())
    assert json.loads(metadata['pretraining']) == RECORD
    state = torch.load(source)['state_dict']
    assert names == {n.removeprefix('vit.model.') for n in state if n.startswith('vit.')}
    again = str(folder / 'vit.pth')
    convert_checkpoint(target, again)
    assert torch.load(again)['meta']['pretraining'] == RECORD
    vit = TimmViT('test_vit.r160_in1k', checkpoint=target, model_kwargs={'depth': 2})
    vit.init_weights()
    assert torch.equal(vit.model.blocks[1].mlp.fc1.bias, state['vit.model.blocks.1.mlp.fc1.bias'])
    for file in (source, target, again):
        with pytest.raises(ValueError, match=r"pretrained as model_name='test_vit'.*'test_vit2'"):
            convert_checkpoint(file, str(folder / 'x.pth'), model_name='test_vit2')


def test_a_new_training_from_the_file_needs_its_encoder(folder: Path) -> None:
    checkpoint = str(folder / 'whole/epoch_4.pth')
    runner = pretrain(folder, 'more', load_from=checkpoint, max_epochs=2)
    start = torch.load(checkpoint)['state_dict']
    moved = [
        (tensor - start[name]).abs().max()
        for name, tensor in runner.model.state_dict().items()
        if name.startswith('vit.')
    ]
    assert max(moved) < 0.01
    with pytest.raises(ValueError, match=r'(?s)load_from .*does not fit.* set vit.checkpoint'):
        pretrain(folder, 'deep', load_from=checkpoint, **{'model.vit.model_kwargs.depth': 4})


def test_images_of_other_bands_are_refused(folder: Path) -> None:
    for index in range(4):
        values = np.random.default_rng(index).random((40, 50, 4)).astype(np.float32)
        (folder / 'bands').mkdir(exist_ok=True)
        np.save(folder / f'bands/{index}.npy', values)
    options = {
        'data_root': str(folder / 'bands'),
        'probe_root': '',
        'max_epochs': 2,
        'load_image': {'type': 'LoadBands'},
    }
    with pytest.raises(ValueError, match=r'images of 4 channels, the backbone takes 3'):
        pretrain(folder, 'three', **options)
    runner = pretrain(folder, 'four', mean=[0.5] * 4, std=[0.3] * 4, **options)
    assert runner.model.vit.model.patch_embed.proj.weight.shape[1] == 4
    assert cv2.imread(str(folder / 'four/pictures/iter_2.png')) is not None
    assert torch.load(folder / 'four/epoch_2.pth')['meta']['pretraining']['mean'] == [0.5] * 4
