"""Compare segmentation heads on one ViT: parameters, multiply-adds, time, and mIoU.

    python benchmarks/heads.py
    python benchmarks/heads.py --train --data-root data/camvid --weights vit.safetensors

The first command measures each head alone on given maps, without a loss, and plain ViTs beside
them. They run in turn, so that a change of the machine's speed affects all; figures are medians.
"whole / ViT" are the multiply-adds of ViT, pyramid and head, divided by those of the ViT.

With `--train`, each head is also trained on the frozen ViT in FILE, with the same images,
iterations and learning rate; the mIoU is that after the last iteration. Finished runs are kept in
the work directory, so that a stopped benchmark can be resumed.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from measuring import CLOCKS, forward, forward_backward, multiply_adds, seconds
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from tables import header, row
from torch import Tensor, nn
from transfer import budget, check_settings, mean_and_spread, once, shrink_images
from variants import Variant

import vit_dense.segmentation  # noqa: F401 - registers the heads
from vit_dense.apis import load_config, train_model
from vit_dense.backbones import TimmViT
from vit_dense.export.mask2former import static_sizes

CONFIGS = Path(__file__).parents[1] / 'configs'
# their decode_head is the head; HEADS says what differs
FILES = {
    'LinearHead': '_base_/models/linear_plain_vit',
    'SegformerHead': 'segformer_head/'
    'vit-adapter-b-dinov2-frozen_segformer_8xb2-160k_ade20k-518x518',
    'DPTHead': 'dpt/plain-vit-b-dinov2-frozen_dpt_8xb2-40k_ade20k-518x518',
    'FastUPerHead': '_base_/models/upernet_vit_adapter',
    'Mask2FormerHead': '_base_/models/mask2former_vit_adapter',
}
HEADS: dict[str, dict[str, Any]] = {
    'linear': {'type': 'LinearHead'},
    'MLP': {'type': 'SegformerHead'},
    'DPT-64': {'type': 'DPTHead', 'channels': 64},
    'UPerNet-128': {'type': 'FastUPerHead', 'channels': 128},
    'Mask2Former': {'type': 'Mask2FormerHead'},
    'DPT-256': {'type': 'DPTHead', 'channels': 256},
    'UPerNet-512': {'type': 'FastUPerHead', 'channels': 512},
}
PYRAMID_WIDTH = 256  # of SimpleFeaturePyramid, ViTDet's
ADE20K_CLASSES = 150


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the options; resuming compares those that change a result."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--heads', nargs='+', default=list(HEADS), choices=list(HEADS))
    parser.add_argument('--threads', type=int, default=1, help='CPU threads')
    costs = parser.add_argument_group('costs')
    costs.add_argument(
        '--vits', nargs='+', default=['vit_small_patch16_224', 'vit_base_patch16_224']
    )
    costs.add_argument('--size', type=int, default=512, help='image edge in pixels')
    costs.add_argument('--clock', choices=list(CLOCKS), default='cpu')
    costs.add_argument('--runs', type=int, default=5, help='turns of the timing')
    train = parser.add_argument_group('training')
    train.add_argument('--train', action='store_true')
    train.add_argument('--data-root', help='data set in ADE20K layout')
    train.add_argument('--weights', metavar='FILE', help='of --model-name')
    train.add_argument('--model-name', default='vit_small_patch14_dinov2')
    train.add_argument('--config', default=str(CONFIGS / 'vit_upernet_camvid.py'))
    train.add_argument('--work-dir', default='work_dirs/heads')
    train.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    train.add_argument('--iterations', type=int, default=160)
    train.add_argument('--batch', type=int, default=4)
    train.add_argument('--crop', type=int, default=196)
    train.add_argument('--lr', type=float, default=1e-3)
    args = parser.parse_args(argv)
    if args.train and not (args.data_root and args.weights):
        parser.error('--train needs --data-root and --weights')
    args.validations = 1
    return args


def main() -> None:
    """Train what is missing, and print the table."""
    args = parse_args()
    torch.set_num_threads(args.threads)
    scores = train_all(args) if args.train else {}
    torch.manual_seed(0)
    print(cost_table(args, scores))


def cost_table(args: argparse.Namespace, scores: dict[str, str]) -> str:
    """Measure ViTs and heads, the heads on maps of the first ViT."""
    image = torch.randn(1, 3, args.size, args.size)
    modules: dict[str, nn.Module] = {name: Variant(name, 'plain').build() for name in args.vits}
    starts = dict.fromkeys(args.vits, '')
    adds = {name: multiply_adds(module, image) for name, module in modules.items()}
    of_vit = adds[args.vits[0]]
    shares = {name: count / of_vit for name, count in adds.items()}
    for name in args.heads:
        config = model_config(name, {'model_name': args.vits[0]}, ADE20K_CLASSES)
        with DefaultScope.overwrite_default_scope('mmseg'), torch.no_grad():
            backbone = MODELS.build(config['backbone']).eval()
            modules[name] = HeadAlone(MODELS.build(config['decode_head']), backbone(image))
        starts[name] = config['backbone']['type']
        adds[name] = multiply_adds(modules[name], image)
        shares[name] = (multiply_adds(backbone, image) + adds[name]) / of_vit
    times = {step: measure(step, modules, image, args) for step in (forward, forward_backward)}
    columns = ('', 'on', 'parameters, M', 'multiply-adds, G', 'whole / ViT')
    lines = [header(*columns, 'forward ms', 'forward+backward ms', *['mIoU'] * bool(scores))]
    for name, module in modules.items():
        parameters = sum(one.numel() for one in module.parameters())
        cells = [f'{parameters / 1e6:.2f}', f'{adds[name] / 1e9:.1f}', f'{shares[name]:.2f}']
        cells += [f'{1000 * found[name]:.0f}' for found in times.values()]
        lines.append(row(name, starts[name], *cells, *[scores.get(name, '')] * bool(scores)))
    return '\n'.join(lines)


def measure(
    step: Any, modules: dict[str, nn.Module], image: Tensor, args: argparse.Namespace
) -> dict[str, float]:
    """Return the median seconds of each module, all run in turn; the first turn warms up."""
    times: dict[str, list[float]] = {name: [] for name in modules}
    for _ in range(args.runs + 1):
        for name, module in modules.items():
            module.train(step is forward_backward)
            times[name].append(seconds(step, module, image, args.clock))
    return {name: statistics.median(found[1:]) for name, found in times.items()}


class HeadAlone(nn.Module):
    """A head on given maps, as a module that takes an image."""

    def __init__(self, head: nn.Module, maps: Sequence[Any]) -> None:
        super().__init__()
        self.head = head
        self.is_paired = isinstance(maps[0], tuple)
        tensors = [one for pair in maps for one in pair] if self.is_paired else maps
        for i, tensor in enumerate(tensors):  # buffers: they move with the module
            self.register_buffer(f'map{i}', tensor.clone().requires_grad_())

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the head's tensors, whatever the image."""
        maps: list[Any] = list(self.buffers(recurse=False))
        if self.is_paired:
            maps = list(zip(maps[::2], maps[1::2], strict=True))
        if not hasattr(self.head, 'pixel_decoder'):
            return (self.head(maps),)
        with static_sizes(self.head):
            scores, masks = self.head(maps, None)
        return (*scores, *masks)


# --- models


def model_config(name: str, vit: dict[str, Any], classes: int) -> dict[str, dict[str, Any]]:
    """Return the configs of backbone and head."""
    vit = {'type': 'TimmViT', 'final_norm': True, **vit}
    built = MODELS.build(vit)
    width, depth = built.embed_dim, built.depth
    head = Config.fromfile(CONFIGS / f'{FILES[HEADS[name]["type"]]}.py').model.decode_head
    head.update(HEADS[name], num_classes=classes)
    if head.type == 'LinearHead':
        head.in_channels, backbone = width, {'type': 'PlainViT', 'vit': vit}
    elif head.type == 'DPTHead':
        blocks = [depth * (i + 1) // 4 - 1 for i in range(4)]
        backbone = {'type': 'PlainViT', 'vit': vit, 'out_indices': blocks, 'output_cls_token': True}
        widths = [width // 8, width // 4, width // 2, width]  # of the paper, for a ViT-B
        head.update(embed_dims=width, in_channels=[width] * 4, post_process_channels=widths)
    else:
        backbone = {'type': 'SimpleFeaturePyramid', 'vit': vit, 'out_channels': PYRAMID_WIDTH}
        head.in_channels = [PYRAMID_WIDTH] * 4
    if head.type == 'Mask2FormerHead':
        head.loss_cls.class_weight = [1.0] * classes + [0.1]
    return {'backbone': backbone, 'decode_head': head}


# --- training


def train_all(args: argparse.Namespace) -> dict[str, str]:
    """Train each head with each seed, if that was not done before; return mIoUs by head."""
    work_dir = Path(args.work_dir)
    compared = ('model_name', 'config', 'iterations', 'batch', 'crop', 'lr')
    settings = {key: value for key, value in vars(args).items() if key in compared}
    settings['config'] = Path(args.config).name
    settings['weights'] = hashlib.sha256(Path(args.weights).read_bytes()).hexdigest()[:16]
    check_settings(work_dir / 'settings.json', settings)
    found: dict[str, list[float]] = {name: [] for name in args.heads}
    for seed in args.seeds:
        for name in args.heads:
            folder = work_dir / f'{name}-{seed}'
            found[name].append(once(folder, partial(train, args, name, folder, seed))['mIoU'])
    return {name: mean_and_spread(scores) for name, scores in found.items()}


def train(args: argparse.Namespace, name: str, folder: Path, seed: int) -> dict[str, Any]:
    """Train a head on the frozen ViT, and validate it."""
    config = load_config(args.config, work_dir=str(folder), cfg_options=budget(args))
    shrink_images(config, 1.0, args.crop)
    vit = TimmViT(args.model_name)
    body = {
        'model_name': args.model_name,
        'checkpoint': str(Path(args.weights).resolve()),
        'frozen_stages': vit.depth,
    }
    # `ConfigDict.update` would merge the old parts with the new
    for part, new in model_config(name, body, config.num_classes).items():
        config.model[part] = new
    config.model.auxiliary_head = None
    config.model.data_preprocessor.update(
        mean=[255 * x for x in vit.mean],
        std=[255 * x for x in vit.std],
        test_cfg={'size_divisor': vit.patch_size},  # or logits would be stretched
    )
    config.default_hooks.update(checkpoint=None, pictures=None)
    runner = train_model(config, seed=seed)
    return {'mIoU': round(float(runner.message_hub.get_scalar('val/mIoU').current()), 2)}


if __name__ == '__main__':
    main()
