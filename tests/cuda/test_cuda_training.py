"""A training of three steps, evaluation and prediction on a GPU, by the functions of the API."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from examples.streets import CLASSES, PALETTE, DemoSpec, write_demo_dataset
from vit_dense.apis import evaluate_model, load_config, load_model, train_model

CONFIGS = Path(__file__).parents[2] / 'configs'


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demo_dataset(tmp_path_factory.mktemp('scenes'), DemoSpec(4, 3, 64, 80))


def small(data: Path, work: Path) -> Config:
    config = load_config(str(CONFIGS / 'vit_upernet_demo.py'), work_dir=str(work))
    for name in ('train', 'val', 'test'):
        loader = config[f'{name}_dataloader']
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset.data_root = str(data)
        loader.dataset.metainfo = {'classes': CLASSES, 'palette': PALETTE}
    config.train_cfg.update(max_iters=3, val_interval=3)
    config.default_hooks.logger.interval = 1
    config.visualizer.name = config.experiment_name = work.name  # mmengine keeps both by name
    return config


def first_loss(runner: Runner) -> float:
    return runner.message_hub.get_scalar('train/loss').data[0][0]


def trained(data: Path, work: Path, **options: str) -> Runner:
    runner = train_model(small(data, work), seed=0, **options)
    assert all(parameter.isfinite().all() for parameter in runner.model.parameters())
    assert next(runner.model.parameters()).is_cuda
    return runner


@pytest.mark.parametrize('dtype', ['bfloat16', 'float16'])
def test_amp_starts_with_the_loss_of_float32(data: Path, tmp_path: Path, dtype: str) -> None:
    expected = first_loss(trained(data, tmp_path / f'full {dtype}'))
    found = first_loss(trained(data, tmp_path / dtype, amp_dtype=dtype))
    assert found == pytest.approx(expected, rel=0.03)


def test_evaluation_and_prediction(data: Path, tmp_path: Path) -> None:
    runner = trained(data, tmp_path / 'run')
    validated = runner.message_hub.get_scalar('val/mIoU').current()
    checkpoint = tmp_path / 'run' / 'iter_3.pth'
    figures = evaluate_model(small(data, tmp_path / 'test'), str(checkpoint))
    assert figures['mIoU'] == pytest.approx(validated, abs=0.01)
    images = sorted(data.glob('images/validation/*.png'))
    cpu, cuda = (
        [result.labels for result in load_model(checkpoint, device=device).predict(images)]
        for device in ('cpu', 'cuda')
    )
    agreement = np.mean([(x == y).mean() for x, y in zip(cpu, cuda, strict=True)])
    assert len(cpu) == 3
    assert agreement > 0.999


def test_deterministic_mode_names_the_operation(data: Path, tmp_path: Path) -> None:
    """As docs/gpu.md says: several operations have no deterministic version on CUDA."""
    try:
        with pytest.raises(RuntimeError, match='deterministic'):
            train_model(small(data, tmp_path / 'run'), seed=0, deterministic=True)
    finally:
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.deterministic = False


def test_out_of_memory_names_what_to_lower(data: Path, tmp_path: Path) -> None:
    config = small(data, tmp_path / 'run')
    config.train_dataloader.batch_size = 256
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(2**30 / total)
    try:
        with pytest.raises(ValueError, match=r'batch_size=256 \(at most \d+ may fit\)') as caught:
            train_model(config, seed=0)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert 'set --amp or model.backbone.vit.grad_checkpointing=True' in str(caught.value)
