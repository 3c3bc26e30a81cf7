"""Test which timm models work as backbones.

    python benchmarks/backbone_coverage.py --write docs/coverage.md      # all, over an hour
    python benchmarks/backbone_coverage.py --sample                      # a few of each kind
    python benchmarks/backbone_coverage.py --part 1/4 --results part.json

Every isotropic ViT is tested at full width, and at depth 4 where its constructor allows. The few
wider than `WIDEST` have fewer channels, to fit in memory; the table names them. Each must equal
timm's own maps bit for bit, in chunks of blocks, and then work under each adapter on a rectangular
image whose size is not a multiple of its patches: strides, channels, finite values, a finite
gradient for every parameter. Every other model is built as a TimmPyramid on the meta device, which
checks strides and what the maps depend on; those with up to `--limit` parameters also run with
values. (The tests check that their maps equal timm's.)
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from coverage_table import Result, module_of, table
from torch import Tensor, nn

from vit_dense.adapters import SimpleFeaturePyramid, ViTAdapter, ViTCoMer
from vit_dense.backbones import TimmPyramid, TimmViT
from vit_dense.backbones.families import FAMILIES

STRIDES = (4, 8, 16, 32)
# maximum width: four wider blocks and an adapter would not fit in memory
WIDEST = 2048
NARROW = (
    {'embed_dim': 48, 'num_heads': 3},
    {'embed_dim': 48, 'num_heads': 3, 'num_kv_heads': 1},
)
# in this order; a constructor that fixes an argument rejects it
DEPTHS: tuple[dict[str, int], ...] = ({'depth': 4}, {'depth': 4, 'num_kv_heads': 4}, {})
# both kinds among the four blocks
BESIDE_DEPTH: dict[str, dict[str, int]] = {'convit': {'local_up_to_layer': 2}}
# patches of the image for which timm returns maps; most families accept any
PARITY_GRID = {'convit': (5, 5), 'gemma4_vit': (6, 3)}
ADAPTERS: dict[str, Callable[[TimmViT], nn.Module]] = {
    'SimpleFeaturePyramid': lambda vit: SimpleFeaturePyramid(vit, out_channels=16),
    'ViTAdapter': lambda vit: ViTAdapter(vit, **deform(vit.embed_dim)),
    'ViTCoMer': lambda vit: ViTCoMer(vit, **deform(vit.embed_dim)),
}
# one model for each special case; the tests run these
SAMPLE = (
    'test_vit',
    'vit_small_patch14_reg4_dinov2',
    'deit_tiny_distilled_patch16_224',
    'eva02_tiny_patch14_224',
    'beit_base_patch16_224',
    'vit_relpos_small_patch16_224',
    'samvit_base_patch16_224',
    'vit_tiny_r_s16_p8_224',
    'naflexvit_base_patch16_gap',
    'cait_xxs24_224',
    'xcit_nano_12_p16_224',
    'convit_tiny',
    'tnt_s_legacy_patch16_224',
    'vitamin_small_224',
    'deepseek_vit_412m',
    'gemma4_vit_167m',
    'qwen3_vit_88m',
    'test_convnext',
    'test_resnet',
    'pvt_v2_b0',
    'mobilevitv2_050',
    'swinv2_cr_tiny_ns_224',
    'hiera_tiny_224',
    'shvit_s1',
    'mixer_s32_224',
    'botnet26t_256',
)


class CheckError(Exception):
    """A built model fails a check."""


def deform(width: int) -> dict[str, Any]:
    """Return small settings of the deformable adapters for a width."""
    heads = next(heads for heads in (3, 4, 2, 1) if width % heads == 0)
    return {'deform_num_heads': heads, 'deform_ratio': 1.0, 'conv_inplane': 8}


def check_maps(maps: Sequence[Tensor], channels: Sequence[int], size: tuple[int, int]) -> None:
    """Raise CheckError unless the maps have their strides and channels and finite values."""
    expected = [
        (c, *(math.ceil(n / s) for n in size)) for c, s in zip(channels, STRIDES, strict=True)
    ]
    got = [tuple(x.shape[1:]) for x in maps]
    if got != expected:
        raise CheckError(f'maps {got}, expected {expected}')
    if not all(x.is_meta or x.isfinite().all() for x in maps):
        raise CheckError('values that are not finite')


def check_gradients(model: nn.Module, maps: Sequence[Tensor]) -> None:
    """Raise CheckError unless every trainable parameter gets a finite gradient."""
    sum(x.float().square().mean() for x in maps).backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and parameter.grad is None:
            raise CheckError(f'{name} has no gradient')
        if parameter.grad is not None and not parameter.grad.sum().isfinite():
            raise CheckError(f'the gradient of {name} is not finite')


@contextlib.contextmanager
def skip_init() -> Iterator[None]:
    """Skip the initialisation of models whose parameters are overwritten at once."""
    draws = ('uniform_', 'normal_', 'erfinv_')
    kept = {draw: getattr(Tensor, draw) for draw in draws}
    for draw in draws:
        setattr(Tensor, draw, lambda self, *args, **kwargs: self)
    try:
        yield
    finally:
        for draw, method in kept.items():
            setattr(Tensor, draw, method)


def randomise(model: nn.Module) -> None:
    """Set random parameters, so that those initialised to zero or one are compared too."""
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.05)


def shapes_of(name: str) -> list[dict[str, int]]:
    """Return arguments that make a ViT small enough, in the order to try."""
    family = BESIDE_DEPTH.get(module_of(name), {})
    depths = [shape | family if shape else shape for shape in DEPTHS]
    with torch.device('meta'):
        width = build_vit(name, depths)[0].embed_dim
    if width <= WIDEST:
        return depths
    narrowed = [depth | narrow for narrow in NARROW for depth in depths]
    return [*narrowed, *depths]  # the last for those with a fixed width


def build_vit(
    name: str, shapes: Sequence[dict[str, int]], **kwargs: Any
) -> tuple[TimmViT, dict[str, int]]:
    """Build a ViT with the first arguments that its constructor allows; return both."""
    for shape in shapes:
        try:
            return TimmViT(name, model_kwargs={**shape, **kwargs}), shape
        except (ValueError, AssertionError, RuntimeError) as error:
            refusal = error
            if isinstance(error, ValueError) and 'could not build' not in str(error):
                break
    raise refusal


def check_parity(name: str, shape: dict[str, int], patch: int) -> None:
    """Compare chunks of blocks with timm's own maps.

    Both are built for the tested size: some timm families accept no other.
    """
    rows, columns = PARITY_GRID.get(module_of(name), (4, 6))
    options: dict[str, Any] = {'img_size': (rows * patch, columns * patch)}
    with skip_init():
        vit, _ = build_vit(name, [shape], **options)
        twin = timm.create_model(name, num_classes=0, **shape, **options).eval()
    randomise(vit)
    vit.family.trunk(twin).load_state_dict(vit.eval().model.state_dict(), strict=False)
    image = torch.randn(1, vit.in_chans, *options['img_size'])
    cut = vit.depth // 2
    with torch.no_grad():
        expected = twin.forward_intermediates(image, intermediates_only=True)
        tokens, context = vit.embed(image)
        for start, stop in ((0, cut), (cut, vit.depth)):
            tokens = vit.run_blocks(tokens, context, start, stop)
            if not torch.equal(vit.to_map(tokens, context), expected[stop - 1]):
                raise CheckError(f"map {stop - 1} is not timm's")


@contextlib.contextmanager
def recorded(result: Result, stage: str = '') -> Iterator[None]:
    """Record any error as the result and go on; a ValueError of stage 'build' is a refusal."""
    try:
        yield
    except Exception as error:
        refused = stage == 'build' and isinstance(error, ValueError)
        why = f'{type(error).__name__}: {error}'
        why = str(error) if refused else f'{stage}: {why}' if stage else why
        result |= {'status': 'refused' if refused else 'fails', 'why': why}


def try_vit(name: str) -> Result:
    """Run all checks of one isotropic ViT."""
    result: Result = {'kind': 'vit', 'adapters': {}}
    with recorded(result, 'build'):
        vit, shape = build_vit(name, shapes_of(name))
        result |= {'reduced': shape, 'width': vit.embed_dim, 'blocks': vit.depth}
    if 'status' in result:
        return result
    patch = vit.patch_size
    with recorded(result, 'parity'):
        check_parity(name, shape, patch)
    if 'status' in result:
        return result
    size = (max(32, 3 * patch + 5), 5 * patch)
    for label, adapter in ADAPTERS.items():
        try:
            vit.zero_grad()
            model = adapter(vit).train()
            image = torch.randn(2, vit.in_chans, *size)
            maps = model(image)
            check_maps(maps, model.out_channels, size)
            check_gradients(model, maps)
            result['adapters'][label] = 'works'
        except Exception as error:
            result['adapters'][label] = f'{type(error).__name__}: {error}'
    bad = {k: v for k, v in result['adapters'].items() if v != 'works'}
    if not bad:
        return result | {'status': 'works'}
    only = result['adapters']['SimpleFeaturePyramid'] == 'works'
    why = '; '.join(f'{label}: {error}' for label, error in bad.items())
    return result | {'status': 'pyramid only' if only else 'fails', 'why': why}


def try_pyramid(name: str, *, limit: float) -> Result:
    """Run all checks of one other model; with values up to `limit` parameters."""
    result: Result = {'kind': 'pyramid'}
    size = (70, 101)
    with recorded(result, 'build'), torch.device('meta'):
        pyramid = TimmPyramid(name, norm_eval=True).train()
    if 'status' in result:
        return result
    with recorded(result):
        with torch.device('meta'):
            check_maps(pyramid(torch.zeros(2, pyramid.in_chans, *size)), pyramid.out_channels, size)
        if sum(p.numel() for p in pyramid.parameters()) <= limit:
            result['numbers'] = True
            pyramid = TimmPyramid(name, norm_eval=True).train()
            maps = pyramid(torch.randn(2, pyramid.in_chans, *size))
            check_maps(maps, pyramid.out_channels, size)
            check_gradients(pyramid, maps)
    return {'status': 'works', **result}


def sweep(names: Sequence[str], limit: float, stored: Path | None = None) -> dict[str, Result]:
    """Test the models without a stored result and print a line for each.

    Args:
        names: Of timm models.
        limit: Number of parameters up to which hierarchical models run with values.
        stored: JSON file of results; written after each model, so that a run can be interrupted.
    """
    results = json.loads(stored.read_text()) if stored and stored.exists() else {}
    for i, name in enumerate(names):
        if name in results:
            continue
        torch.manual_seed(0)
        start = time.perf_counter()
        module = module_of(name)
        plain = module in FAMILIES
        result = try_vit(name) if plain else try_pyramid(name, limit=limit)
        results[name] = {'module': module, **result}
        seconds = time.perf_counter() - start
        why = f': {result["why"][:110]}' if 'why' in result else ''
        print(f'{i + 1}/{len(names)} {name} {seconds:.1f} s {result["status"]}{why}', flush=True)
        if stored:
            stored.write_text(json.dumps(results, indent=1))
    return results


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--models', nargs='+', help='timm names; default: all')
    parser.add_argument('--modules', nargs='+', help="timm's modules, such as eva; default: all")
    parser.add_argument('--sample', action='store_true', help='a few models of each kind')
    parser.add_argument('--part', default='1/1', help='such as 2/4: the second quarter')
    parser.add_argument(
        '--limit',
        type=float,
        default=12.0,
        help='million parameters up to which hierarchical models run with values',
    )
    parser.add_argument(
        '--results',
        type=Path,
        help='JSON file that collects results; models in it are not tested again',
    )
    parser.add_argument('--write', type=Path, help='file for the table; default: print it')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> dict[str, Result]:
    """Test the models, write or print the table, and return all results."""
    args = parse_args(argv)
    warnings.simplefilter('ignore')
    names = list(SAMPLE) if args.sample else args.models or timm.list_models()
    if args.modules:
        names = [name for name in names if module_of(name) in args.modules]
    part, parts = map(int, args.part.split('/'))
    results = sweep(names[part - 1 :: parts], args.limit * 1e6, args.results)
    if args.write:
        args.write.write_text(table(results))
    else:
        print('\n' + table(results))
    return results


if __name__ == '__main__':
    main()
