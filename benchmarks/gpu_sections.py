"""The measurements of `gpu.py`: each section prints Markdown tables, row by row."""

from __future__ import annotations

import gc
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import deform_backends
import numpy as np
import timm
import torch
from measuring import forward_backward, multiply_adds, peak_bytes, seconds
from tables import print_header, print_row
from torch import Tensor, nn
from variants import ADAPTERS, Variant

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
# Of time over the plain ViT's, divided by the ratio of multiply-adds: this project's limit.
LIMIT = 1.25
TRAINING_COLUMNS = (
    *('model', 'backbone', 'batch', 'images/s', 'ms per image', '/ plain'),
    *('multiply-adds / plain', 'time / multiply-adds', 'peak MiB'),
)
# Models and first batch sizes; a batch is halved until it fits.
MODELS = {'vit_base_patch16_224': 16, 'vit_small_patch16_224': 32, 'vit_large_patch16_224': 8}
MODE_MODEL, MODE_BATCH = 'vit_base_patch16_224', 16
# Whole models: ViT-B with UPerNet and its auxiliary head.
UPERNET = {
    "mmseg's VisionTransformer": 'mmseg::vit/vit_vit-b16_mln_upernet_8xb2-80k_ade20k-512x512.py',
    'SimpleFeaturePyramid': 'vitdet/vitdet-b-augreg_upernet_8xb2-160k_ade20k-512x512.py',
    'ViTAdapter': 'vit_adapter/vit-adapter-b-augreg_upernet_8xb2-160k_ade20k-512x512.py',
    'ViTCoMer': 'vit_comer/vit-comer-b-deit_upernet_8xb2-160k_ade20k-512x512.py',
}
UPERNET_BATCH = 16
MMSEG_VIT = "mmseg's VisionTransformer"


@dataclass(frozen=True)
class Setting:
    """Where and how long to measure.

    Args:
        device: Of torch.
        tiny: Use the smallest sizes.
        deadline: Of `time.monotonic`, after which no measurement starts.
    """

    device: str
    tiny: bool
    deadline: float

    @property
    def size(self) -> int:
        """Return the edge of images in pixels."""
        return 64 if self.tiny else 512

    @property
    def steps(self) -> tuple[int, int]:
        """Return the number of steps before the measurement and in it."""
        return (0, 1) if self.tiny else (3, 8)

    def attempt(self, start: Sequence, measure: Callable[[], Sequence], columns: int) -> None:
        """Print a row of `start` and the result; an error becomes the row's text."""
        cells: Sequence = ['no time left']
        if time.monotonic() < self.deadline:
            try:
                cells = measure()
            except Exception as error:
                lines = str(error).strip().splitlines() or ['']
                cells = [f'{type(error).__name__}: {lines[0][:120]}'.replace('|', '/')]
        print_row(*start, *cells, *[''] * (columns - len(start) - len(cells)))
        release_memory()

    def autocast(self) -> torch.autocast:
        """Return the context of bfloat16."""
        return torch.autocast(torch.device(self.device).type, torch.bfloat16)


def release_memory() -> None:
    """Free what the last measurement left on the GPU."""
    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()


def timed_steps(step: Callable, model: Any, data: Any, setting: Setting) -> tuple[float, int]:
    """Return seconds of a step, median, and its peak bytes beyond weights and gradients."""
    warmup, runs = setting.steps
    with setting.autocast():
        for _ in range(warmup):
            step(model, data)
        peak = peak_bytes(step, model, data) or 0
        times = [seconds(step, model, data) for _ in range(runs)]
    return statistics.median(times), peak


def largest_batch(measure: Callable[[int], Any], batch: int) -> tuple[int, Any]:
    """Return the batch size, halved until it fits, and what `measure` returns for it."""
    while True:
        try:
            return batch, measure(batch)
        except torch.OutOfMemoryError:
            if batch == 1:
                raise
        batch //= 2
        release_memory()


def noise(batch: int, setting: Setting) -> Tensor:
    """Return a batch of images."""
    return torch.randn(batch, 3, setting.size, setting.size, device=setting.device)


def mmseg_vit(name: str) -> nn.Module:
    """Build mmseg's ViT with the sizes of timm's."""
    import vit_dense.segmentation  # noqa: F401, I001  (mmseg needs it without compiled ops)
    from mmseg.models.backbones import VisionTransformer

    with torch.device('meta'):
        sizes = timm.create_model(name, num_classes=0)
    return VisionTransformer(
        img_size=sizes.patch_embed.img_size,
        embed_dims=sizes.embed_dim,
        num_layers=len(sizes.blocks),
        num_heads=sizes.blocks[0].attn.num_heads,
        mlp_ratio=sizes.blocks[0].mlp.fc1.out_features // sizes.embed_dim,
    )


def training(setting: Setting) -> None:
    """Measure forward and backward of backbones, then of whole models with their losses."""
    print(
        f'Forward and backward of the backbone alone, {setting.size} px, bfloat16 autocast, no '
        'optimizer; peak beyond weights and gradients. "plain" is timm\'s ViT. mmdet 3.3 has no '
        'plain ViT in its package.\n'
    )
    print_header(*TRAINING_COLUMNS)
    models = {'test_vit': 2} if setting.tiny else MODELS
    for name, batch in models.items():
        plain: dict[str, float] = {}
        for kind in ('plain', *ADAPTERS, MMSEG_VIT):

            def measure(name: str = name, kind: str = kind, batch: int = batch) -> list:
                return _backbone_row(name, kind, batch, plain, setting)  # noqa: B023

            setting.attempt((name, kind), measure, len(TRAINING_COLUMNS))
    _whole_models(setting)


def _backbone_row(
    name: str, kind: str, batch: int, plain: dict[str, float], setting: Setting
) -> list:
    model = mmseg_vit(name) if kind == MMSEG_VIT else Variant(name, kind).build()
    adds = multiply_adds(model, torch.zeros(1, 3, setting.size, setting.size))
    model.to(setting.device).train()
    batch, (time_, peak) = largest_batch(
        lambda count: timed_steps(forward_backward, model, noise(count, setting), setting), batch
    )
    if kind == 'plain':
        plain.update(time=time_ / batch, adds=adds)
    cells = [batch, f'{batch / time_:.1f}', f'{time_ / batch * 1000:.2f}']
    if not plain:
        return [*cells, '-', '-', '-', f'{peak / 2**20:.0f}']
    ratio, share = time_ / batch / plain['time'], adds / plain['adds']
    quotient = f'{ratio / share:.2f}'
    quotient = f'**{quotient}**' if ratio / share > LIMIT else quotient
    return [*cells, f'{ratio:.2f}', f'{share:.2f}', quotient, f'{peak / 2**20:.0f}']


def upernet(config: str, setting: Setting) -> nn.Module:
    """Build the segmentor of a config without pretrained weights."""
    from mmengine.registry import MODELS as REGISTRY
    from mmengine.registry import init_default_scope

    import vit_dense.segmentation  # noqa: F401  (registers what the config names)
    from vit_dense.apis import load_config

    if config.startswith('mmseg::'):
        import mmseg

        path = Path(mmseg.__file__).parent / '.mim' / 'configs' / config.removeprefix('mmseg::')
    else:
        path = CONFIGS / config
    loaded = load_config(str(CONFIGS / 'vit_upernet_demo.py' if setting.tiny else path))
    loaded.model.pop('pretrained', None)
    if 'vit' in loaded.model.backbone:
        loaded.model.backbone.vit.update(pretrained=False, checkpoint=None)
    loaded.model.test_cfg = {'mode': 'whole'}
    init_default_scope('mmseg')
    return REGISTRY.build(loaded.model)


def _whole_models(setting: Setting) -> None:
    columns = ('ViT-B with UPerNet', 'batch', 'images/s', 'ms per image', 'peak MiB')
    print(f'\nThe whole model with its losses, forward and backward, {setting.size} px.\n')
    print_header(*columns)
    for kind, config in UPERNET.items():

        def measure(config: str = config) -> list:
            model = upernet(config, setting)
            model.to(setting.device).train()
            batch, (time_, peak) = largest_batch(
                lambda count: timed_steps(_loss_step, model, noise(count, setting), setting),
                2 if setting.tiny else UPERNET_BATCH,
            )
            speed = f'{batch / time_:.1f}', f'{time_ / batch * 1000:.2f}'
            return [batch, *speed, f'{peak / 2**20:.0f}']

        setting.attempt((kind,), measure, len(columns))
        if setting.tiny:
            return


def _loss_step(model: nn.Module, image: Tensor) -> None:
    """Run a training step of a segmentor without the optimizer."""
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    labels = torch.zeros(1, *image.shape[-2:], dtype=torch.long, device=image.device)
    samples = [
        SegDataSample(gt_sem_seg=PixelData(data=labels), metainfo={'img_shape': image.shape[-2:]})
        for _ in image
    ]
    losses = model(image, samples, mode='loss')
    sum(value for name, value in losses.items() if 'loss' in name).backward()


def modes(setting: Setting) -> None:
    """Measure what channels-last, checkpointing, windows and torch.compile change."""
    columns = ('mode', 'batch', 'ms per step', '/ eager', 'peak MiB', '/ eager')
    name, batch = ('test_vit', 2) if setting.tiny else (MODE_MODEL, MODE_BATCH)
    print(f'ViTAdapter on {name}, {setting.size} px, bfloat16 autocast, forward and backward.\n')
    print_header(*columns)
    eager: list[float] = []
    window = 2 if setting.tiny else 14
    cases: dict[str, dict[str, Any]] = {
        'eager': {},
        'channels last': {},
        'grad_checkpointing': {'checkpointing': True},
        f'window_size={window}': {'window_size': window},
        f'window_size={window}, grad_checkpointing': {
            'window_size': window,
            'checkpointing': True,
        },
    }
    if not setting.tiny:
        cases['torch.compile'] = {}  # the last, since it may take the rest of the time
    for mode, options in cases.items():

        def measure(mode: str = mode, options: dict[str, Any] = options) -> list:
            model = Variant(name, 'ViTAdapter', **options).build().to(setting.device).train()
            image = noise(batch, setting)
            if mode == 'channels last':
                model.to(memory_format=torch.channels_last)
                image = image.contiguous(memory_format=torch.channels_last)
            if mode == 'torch.compile':
                model.compile(dynamic=False)
            time_, peak = timed_steps(forward_backward, model, image, setting)
            if not eager:
                eager.extend((time_, max(peak, 1)))
            shares = f'{time_ / eager[0]:.2f}', f'{peak / eager[1]:.2f}'
            return [batch, f'{time_ * 1000:.1f}', shares[0], f'{peak / 2**20:.0f}', shares[1]]

        setting.attempt((mode,), measure, len(columns))


def evaluation(setting: Setting) -> None:
    """Measure mmengine's test loop with the data loader, on random images and weights."""
    count, classes = (2, 8) if setting.tiny else (128, 150)
    columns = ('precision', 'batch', 'images/s')
    print(
        f'ViT-Adapter-B with UPerNet, whole images of {setting.size} px from {count} JPEG files, '
        'mIoU, the second of two runs.\n'
    )
    print_header(*columns)
    with tempfile.TemporaryDirectory() as folder:
        _write_images(Path(folder), count, classes, setting.size)
        for precision, batch in (('float32', 1), ('float16', 1), ('float16', 8)):

            def measure(precision: str = precision, batch: int = batch) -> list:
                runner = _tester(Path(folder), batch, precision == 'float16', classes, setting)
                runner.test()
                start = time.perf_counter()
                runner.test()
                return [f'{count / (time.perf_counter() - start):.1f}']

            setting.attempt((precision, batch), measure, len(columns))


def _write_images(folder: Path, count: int, classes: int, size: int) -> None:
    random = np.random.default_rng(0)
    for i in range(count):
        smooth = cv2.resize(random.integers(0, 255, (16, 16, 3), np.uint8), (size, size))
        labels = cv2.resize(
            random.integers(0, classes, (16, 16), np.uint8),
            (size, size),
            interpolation=cv2.INTER_NEAREST,
        )
        for part, name, picture in (('images', f'{i}.jpg', smooth), ('labels', f'{i}.png', labels)):
            (folder / part).mkdir(exist_ok=True)
            cv2.imwrite(str(folder / part / name), picture)


def _tester(folder: Path, batch: int, half: bool, classes: int, setting: Setting) -> Any:
    """Build a runner for `test`, which loads the images again in each run."""
    from mmengine.runner import Runner

    model = upernet(UPERNET['ViTAdapter'], setting)
    pipeline = [
        {'type': 'LoadImageFromFile'},
        {'type': 'LoadAnnotations'},
        {'type': 'PackSegInputs'},
    ]
    names = [str(i) for i in range(classes)]
    dataset = {
        'type': 'CheckedSegDataset',
        'data_root': str(folder),
        'metainfo': {'classes': names, 'palette': [[i, i, i] for i in range(classes)]},
        'data_prefix': {'img_path': 'images', 'seg_map_path': 'labels'},
        'pipeline': pipeline,
    }
    workers = 0 if setting.tiny else 8
    return Runner(
        model=model,
        work_dir=str(folder / 'work'),
        test_dataloader={
            'batch_size': batch,
            'num_workers': workers,
            'persistent_workers': workers > 0,
            'sampler': {'type': 'DefaultSampler', 'shuffle': False},
            'dataset': dataset,
        },
        test_cfg={'fp16': half},
        test_evaluator={'type': 'IoUMetric', 'iou_metrics': ['mIoU']},
        default_scope='mmseg',
        experiment_name=f'gpu_{batch}_{half}',
        log_level='ERROR',
    )


SECTIONS: dict[str, Callable[[Setting], None]] = {
    'training': training,
    'attention': deform_backends.compare,
    'modes': modes,
    'evaluation': evaluation,
}
