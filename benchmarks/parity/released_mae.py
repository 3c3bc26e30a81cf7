"""Compare MaskedAutoencoder with its released code.

    pip install --no-deps --target old_timm timm==0.3.2        # the version of the release
    python -m benchmarks.parity.released_mae path/to/mae --timm old_timm

The argument is a checkout of the released repository, whose licence is non-commercial: nothing of
it is copied or kept. Its models are built with random values everywhere but in the decoder's fixed
positions, ours are loaded from their state dict, and both get the same images and masks, on the CPU
in float32. The release takes square images only: at a rectangle, its decoder gets positions of its
own function for that grid, and its loss is left out.
"""

from __future__ import annotations

import argparse
import collections.abc
import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.registry import MODELS
from torch import Tensor

import vit_dense.pretraining  # noqa: F401 - registers
from benchmarks.parity.common import conclude, largest_difference, largest_value, stub_module
from benchmarks.parity.values import randomise
from benchmarks.tables import print_header, print_row
from vit_dense.layers import map_to_tokens
from vit_dense.weights import load_vit_weights

# by size: the release's function, timm's name
MODEL_NAMES = {
    'B': ('mae_vit_base_patch16', 'vit_base_patch16_224'),
    'L': ('mae_vit_large_patch16', 'vit_large_patch16_224'),
    'H': ('mae_vit_huge_patch14', 'vit_huge_patch14_224'),
}
PATCHES = {'B': 16, 'L': 16, 'H': 14}
GRIDS = ((14, 14), (4, 9))  # h * w is a square, as the release's constructor demands
MASK_SEED = 3
PARTS = {'embed': 'embed', 'blocks': 'blocks', 'norm': 'norm', 'pred': 'heads.pixels'}


def load_release(checkout: Path, old_timm: Path) -> tuple[Any, Any]:
    """Import the released models on their timm, and their function of positions.

    Raises:
        FileNotFoundError: One of the folders is another one.
    """
    if not (checkout / 'models_mae.py').is_file():
        raise FileNotFoundError(f'{checkout} is no checkout of the released MAE')
    if not (old_timm / 'timm' / '__init__.py').is_file():
        raise FileNotFoundError(f'{old_timm} has no timm: see the command of this script')
    ours = {name: sys.modules.pop(name) for name in _timm_modules()}
    stub_module('torch._six', container_abcs=collections.abc, int_classes=int)
    np.float = float  # type: ignore[attr-defined]
    sys.path[:0] = [str(checkout), str(old_timm)]
    try:
        models = importlib.import_module('models_mae')
        positions = importlib.import_module('util.pos_embed')
    finally:
        sys.path.remove(str(old_timm))
        for name in _timm_modules():
            del sys.modules[name]
        sys.modules.update(ours)
    return models, positions.get_2d_sincos_pos_embed_from_grid


def _timm_modules() -> list[str]:
    return [name for name in sys.modules if name.partition('.')[0] == 'timm']


@torch.no_grad()
def build_released(
    release: tuple[Any, Any], size: str, grid: tuple[int, int], *, norm_pixels: bool
) -> Any:
    """Build the released model for a grid, with random values."""
    models, positions_of = release
    build = getattr(models, MODEL_NAMES[size][0])
    size_in_pixels = tuple(PATCHES[size] * edge for edge in grid)
    model = build(img_size=size_in_pixels, norm_pix_loss=norm_pixels).eval()
    fixed = model.decoder_pos_embed.clone()
    columns_rows = np.stack(np.meshgrid(*(np.arange(n, dtype=np.float32) for n in grid[::-1])))
    positions = positions_of(fixed.shape[-1], columns_rows.reshape(2, 1, *grid))
    if grid[0] == grid[1]:
        assert np.array_equal(fixed[0, 1:].numpy(), positions.astype(np.float32))
    randomise(model, seed=len(size))
    model.decoder_pos_embed[0] = 0
    model.decoder_pos_embed[0, 1:] = torch.from_numpy(positions)
    return model


def build_ours(
    state: dict[str, Tensor], size: str, grid: tuple[int, int], *, norm_pixels: bool
) -> Any:
    """Build our model with the values of the release.

    Raises:
        RuntimeError: A tensor is missing, left over or of another shape.
    """
    patch = PATCHES[size]
    kwargs = {'img_size': tuple(patch * edge for edge in grid)}  # positions of this very grid
    vit = {'model_name': MODEL_NAMES[size][1], 'model_kwargs': kwargs}
    ours = MODELS.build({'type': 'MaskedAutoencoder', 'vit': vit, 'norm_pixels': norm_pixels})
    report = load_vit_weights(ours.vit.model, state, pos_grid=grid)
    if report.missing or report.unexpected:
        raise RuntimeError(str(report))
    decoder = {'mask_token': state['mask_token']}
    for key, value in state.items():
        if key.startswith('decoder_') and key != 'decoder_pos_embed':
            part, _, rest = key.removeprefix('decoder_').partition('.')
            decoder[f'{PARTS[part]}.{rest}'] = value
    for key in ('heads.pixels.weight', 'heads.pixels.bias'):  # rows, columns, channels there
        value = decoder[key].unflatten(0, (patch, patch, 3))
        decoder[key] = value.movedim(2, 0).flatten(0, 2)
    ours.decoder.load_state_dict(decoder)
    return ours.eval()


@torch.no_grad()
def compare(
    release: tuple[Any, Any], size: str, grid: tuple[int, int], *, norm_pixels: bool
) -> float:
    """Print one row and return the largest difference."""
    theirs = build_released(release, size, grid, norm_pixels=norm_pixels)
    state = theirs.state_dict()
    ours: Any = build_ours(state, size, grid, norm_pixels=norm_pixels)
    patch = PATCHES[size]
    height, width = (patch * edge for edge in grid)
    image = 1 + torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))

    torch.manual_seed(MASK_SEED)
    latent, mask, restore = theirs.forward_encoder(image, 0.75)
    predicted = theirs.forward_decoder(latent, restore)
    visible = restore.argsort(dim=1)[:, : latent.shape[1] - 1]

    tokens, _ = ours._run_vit(image, visible)
    pixels = map_to_tokens(ours.predict(image, visible)['pixels'])
    pixels = pixels.unflatten(2, (3, patch, patch)).movedim(2, 4).flatten(2)
    differences = [largest_difference(tokens, latent), largest_difference(pixels, predicted)]
    cells = [f'{difference:.1e}' for difference in differences]
    if grid[0] == grid[1]:
        loss = theirs.forward_loss(image, predicted, mask)
        torch.manual_seed(MASK_SEED)  # draws the same mask
        differences.append(largest_difference(ours.loss(image)['loss_pixels'], loss))
        cells += [f'{differences[-1]:.1e} of {loss:.3f}']
    else:
        cells += ['']
    values = f'{largest_value(latent):.1f}, {largest_value(predicted):.1f}'
    normed = 'yes' if norm_pixels else 'no'
    print_row(size, len(state), f'{height}x{width}', normed, values, *cells)
    return max(differences)


def main() -> int:
    """Compare and print the table; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').partition('\n')[0])
    parser.add_argument('checkout', type=Path, help='of the released repository')
    parser.add_argument('--timm', type=Path, required=True, help='folder with timm 0.3.2')
    parser.add_argument('--sizes', nargs='+', choices=MODEL_NAMES, default=['B', 'L'])
    args = parser.parse_args()
    release = load_release(args.checkout, args.timm)
    columns = ('size', 'tensors', 'image', 'normalised pixels', 'largest latent, prediction')
    print_header(*columns, 'latent', 'prediction', 'loss')
    return conclude(
        [
            compare(release, size, grid, norm_pixels=norm_pixels)
            for size in args.sizes
            for grid, norm_pixels in ((GRIDS[0], True), (GRIDS[0], False), (GRIDS[1], True))
        ]
    )


if __name__ == '__main__':
    sys.exit(main())
