"""Compare EoMT with its released code.

    python -m benchmarks.parity.eomt path/to/eomt

The argument is a checkout of the released repository. Its network is built on a ViT-S and filled
with random values, which are mapped to our `EoMT` and `EoMTHead` name by name; both get the same
images, on the CPU in float32. DINOv3, which the release takes from transformers, is compared if a
version of it is installed that the release supports (4.56). Nothing of the release is copied.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import vit_dense.segmentation  # noqa: F401 - registers
from benchmarks.parity.common import conclude, largest_difference, largest_value
from benchmarks.parity.values import randomise
from benchmarks.tables import print_header, print_row
from vit_dense.segmentation.eomt import EoMT, build_eomt_head
from vit_dense.weights import load_vit_weights

CLASSES, QUERIES, BLOCKS = 7, 20, 3
DINOV2, DINOV3 = 'vit_small_patch14_reg4_dinov2', 'vit_small_patch16_dinov3_qkvb'
SIZES = ((96, 128), (160, 112))  # height, width
PARTS = {'conv1': 0, 'conv2': 2, 'norm': 3}  # of a step of upscaling
MEAN, STD = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])

Predictions = tuple[list[Tensor], list[Tensor]]  # class logits and mask logits


def released_encoder(vit: str, size: tuple[int, int]) -> tuple[nn.Module, dict[str, Tensor]]:
    """Build the release's encoder with random values; also return these as in a weight file."""
    encoder = nn.Module()
    if vit == DINOV2:
        encoder.backbone = timm.create_model(vit, img_size=size, patch_size=16, num_classes=0)
        randomise(encoder.backbone, 0)
        state = encoder.backbone.state_dict()
    else:
        transformers = importlib.import_module('transformers')
        config = transformers.DINOv3ViTConfig(
            hidden_size=384, num_attention_heads=6, intermediate_size=1536, num_register_tokens=4
        )
        model = transformers.DINOv3ViTModel(config)
        randomise(model, 0)
        state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        convert = importlib.import_module('models.vit').ViT.transformers_to_timm
        encoder.backbone = convert(None, model, size)
    encoder.pixel_mean = torch.tensor(MEAN).view(1, 3, 1, 1)
    encoder.pixel_std = torch.tensor(STD).view(1, 3, 1, 1)
    return encoder, state


def build_ours(
    vit: str, size: tuple[int, int], vit_state: dict[str, Tensor], released: dict[str, Tensor]
) -> tuple[EoMT, nn.Module]:
    """Build our network and head with the values of the release.

    Raises:
        RuntimeError: A tensor is missing, left over or of another shape.
    """
    kwargs = {'patch_size': 16, 'img_size': size}
    options = {'model_name': vit, 'final_norm': True, 'model_kwargs': kwargs}
    network = EoMT({'type': 'TimmViT', **options}, num_queries=QUERIES, num_blocks=BLOCKS)
    grid = (size[0] // 16, size[1] // 16)
    report = load_vit_weights(network.vit.model, vit_state, pos_grid=grid)
    if report.missing or report.unexpected:
        raise RuntimeError(str(report))
    rest = {
        re.sub(r'^q\.', 'queries.', re.sub(r'conv\d|norm', lambda m: str(PARTS[m[0]]), name)): value
        for name, value in released.items()
        if not name.startswith('encoder.') and name != 'attn_mask_probs'
    }
    head = build_eomt_head(in_channels=network.vit.embed_dim, num_classes=CLASSES)
    head.cls_embed.load_state_dict(
        {name: rest.pop(f'class_head.{name}') for name in ('weight', 'bias')}
    )
    of_vit = {name: t for name, t in network.state_dict().items() if name.startswith('vit.')}
    network.load_state_dict(of_vit | rest)
    return network, head


@torch.no_grad()
def compare(release: Any, vit: str, size: tuple[int, int]) -> float:
    """Print one row for each of training and test, and return the largest difference."""
    encoder, vit_state = released_encoder(vit, size)
    theirs = release.EoMT(encoder, CLASSES, QUERIES, BLOCKS)
    randomise(nn.ModuleList(x for name, x in theirs.named_children() if name != 'encoder'), 1)
    network, head = build_ours(vit, size, vit_state, theirs.state_dict())
    network.vit.eval()
    image = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(2))
    normalised = (image - encoder.pixel_mean) / encoder.pixel_std
    theirs.eval()
    worst = 0.0
    for masked in (True, False):
        theirs.attn_mask_probs.fill_(float(masked))
        masks, classes = theirs(image)
        network.training = masked  # its ViT has neither dropout nor stochastic depth
        ours: Predictions = head(network(normalised))
        if not masked:
            masks, classes = [F.interpolate(masks[-1], size, mode='bilinear')], classes[-1:]
        difference = largest_difference(ours, (classes, masks))
        mode = f'training, {len(masks)} predictions, all masked' if masked else 'test'
        largest = f'{largest_value(ours):.0f}'
        print_row(vit, f'{size[0]}x{size[1]}', mode, largest, f'{difference:.1e}')
        worst = max(worst, difference)
    return worst


def main() -> int:
    """Compare and print the table; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').partition('\n')[0])
    parser.add_argument('checkout', type=Path, help='of the released repository')
    checkout = parser.parse_args().checkout
    if not (checkout / 'models' / 'eomt.py').is_file():
        parser.error(f'{checkout} is no checkout of the released EoMT: it has no models/eomt.py')
    sys.path.insert(0, str(checkout))
    release = importlib.import_module('models.eomt')
    vits = [DINOV2, *([DINOV3] if importlib.util.find_spec('transformers') else [])]
    print_header('ViT', 'image', 'mode', 'largest value', 'largest difference')
    return conclude([compare(release, vit, size) for vit in vits for size in SIZES])


if __name__ == '__main__':
    sys.exit(main())
