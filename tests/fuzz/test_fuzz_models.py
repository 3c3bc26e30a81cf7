"""Random backbones, options and image sizes: maps as promised, or one clear error."""

import random
from typing import Any

import families
import pytest
import small_pyramids
import torch
from fuzz_cases import cases, numbers, refusal
from mmengine.registry import MODELS
from torch import nn

pytestmark = pytest.mark.slow

# For options that are right, but not with every model.
RIGHTLY_REFUSED = (
    'leave window_size out',
    'leave grad_checkpointing out',
    'leave it out',
    "unexpected keyword argument 'drop_path_rate'",
)
# timm's EVA and TNT accept a width that their heads do not divide, and fail in the forward pass.
HEADS = (r'RuntimeError: (shape|The size of tensor|The expanded size|split|view)',)
STRIDES = (4, 8, 16, 32)
NAN = float('nan')
Options = dict[str, tuple[tuple[Any, ...], tuple[Any, ...]]]  # name -> right values, wrong values
VIT: Options = {
    'window_size': ((1, 2, 7, 100, [None, 2, 2, None]), (0, -1, 'a', 2.5, [2], True, {}, [0] * 4)),
    'frozen_stages': ((-1, 0, 2, 4), (-2, 99, 1.5, 'all', None)),
    'grad_checkpointing': ((True,), ()),
    'drop_path_rate': ((0.1, 0.9), (1.0, -0.1, '0.1', None, NAN)),
    'checkpoint': ((None,), (3, [], {}, {'path': 1}, {'path': 'x', 'foo': 1})),
    'global_blocks': ((), (1, 'x', [99], [None], {}, [0.5])),
}
MODEL_KWARGS: Options = {
    'embed_dim': ((), (0, -1, 'x', None, 50, 48.0)),
    'depth': ((), (0, 2, -1, 'x')),
    'num_heads': ((), (0, 5, 'x', None)),
    'patch_size': ((), (0, 14.5, 'x', None, (16, 8))),
    'num_classes': ((), (7,)),
    'foo': ((), (1,)),
    'img_size': ((), ('x', -1, 0)),
}
INTERACTION: Options = {
    'interaction_indexes': (
        ([[0, 0], [1, 1], [2, 2], [3, 3]],),
        ([], 3, 'x', [[0, 3]], [[0, None]], [[0, 'a']] * 4, [[0, 1], [1, 3]], [0, 1, 2, 3], {}),
    ),
    'conv_inplane': ((8, 16), (0, -1, 'x', 1.5, None)),
    'deform_num_heads': ((1, 6), (5, 0, -1, 'x', None, 1.5)),
    'deform_ratio': ((0.5, 1), (0, -1, 'x', NAN, None, 1e-9)),
    'cffn_ratio': ((0.25, 1.0), (-1, 'x', None, 1e-9, NAN)),
    'vit_feature_source': (('stages', 'last', 'none'), ('all', None, 3)),
    'norm': (('BN', 'LN'), ('GN', None, 3, [])),
}
PYRAMID: Options = {
    'norm': (('BN', 'LN', None), ('GN', 3, [])),
    'norm_eval': ((True,), ()),
    'grad_checkpointing': ((True,), ()),
    'drop_path_rate': ((0.1, 0.9), (1.0, -0.1, '0.1', None, NAN)),
    'frozen_stages': ((-1, 0, 2, 4), (-2, 99, 1.5, 'all', None)),
    'checkpoint': ((None,), (3, [], {}, {'path': 'x'})),
}
OWN: dict[str, Options] = {
    'SimpleFeaturePyramid': {
        'out_channels': ((8, 16), (0, -1, 'x', 1.5, None)),
        'norm': INTERACTION['norm'],
    },
    'ViTAdapter': INTERACTION | {'n_points': ((1, 2), (0, -1, 'x', 1.5, None))},
    'ViTCoMer': INTERACTION | {'mrfp_ratio': ((0.5, 1.0), (0, -1, 'x', None, NAN, 1.02))},
    'PlainViT': {'num_maps': ((1, 4), (0, -1, 99, 'x', 1.5, None))},
}
WIDTH = {'embed_dim': 48, 'num_heads': 3}
START: dict[str, dict[str, Any]] = {
    'SimpleFeaturePyramid': {'out_channels': 16},
    'ViTAdapter': {'deform_num_heads': 3, 'conv_inplane': 8},
    'ViTCoMer': {'deform_num_heads': 3, 'conv_inplane': 8},
    'PlainViT': {},
}


def choose(options: Options, draw: random.Random, wrong: str | None) -> dict[str, Any]:
    """Returns right values of some options, and a wrong one of `wrong`."""
    chosen = {
        k: draw.choice(right) for k, (right, _) in options.items() if right and draw.random() < 0.25
    }
    return chosen | ({wrong: draw.choice(options[wrong][1])} if wrong in options else {})


def draw_config(draw: random.Random) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Returns a config; and if one of its options is wrong, the option and its value."""
    kind = draw.choice([*OWN, 'TimmPyramid'])
    groups = [PYRAMID] if kind == 'TimmPyramid' else [OWN[kind], VIT, MODEL_KWARGS]
    faulty = [name for group in groups for name, (_, bad) in group.items() if bad]
    wrong = draw.choice(faulty) if draw.random() < 0.5 else None
    kwargs = {'in_chans': draw.choice((1, 3, 4))} if draw.random() < 0.3 else {}
    if kind == 'TimmPyramid':
        name = draw.choice(list(small_pyramids.SMALL))
        config = {'model_kwargs': small_pyramids.SMALL[name][0] | kwargs}
        config |= choose(PYRAMID, draw, wrong)
        given = config
    else:
        name = draw.choice(list(families.SMALL))
        kwargs = families.small_kwargs(name) | kwargs | choose(MODEL_KWARGS, draw, wrong)
        if name == 'test_vit':
            kwargs = WIDTH | kwargs
        vit = {'type': 'TimmViT', 'model_name': name, 'model_kwargs': kwargs}
        vit |= choose(VIT, draw, wrong)
        config = {'vit': vit, **START[kind], **choose(OWN[kind], draw, wrong)}
        given = kwargs | vit | config
    config = {'type': kind, **config} | ({'model_name': name} if kind == 'TimmPyramid' else {})
    return config, () if wrong is None else (wrong, repr(given[wrong]))


def channels_of(backbone: Any) -> int:
    return getattr(backbone, 'vit', backbone).in_chans


def draw_image(draw: random.Random, backbone: nn.Module) -> torch.Tensor:
    channels = channels_of(backbone)
    sizes = [
        draw.choice((draw.randint(1, 40), draw.randint(32, 120), draw.randint(32, 200)))
        for _ in 'HW'
    ]
    if draw.random() < 0.1:
        channels = draw.choice((1, 2, 3, 4, 5))
    shape = [draw.choice((1, 2)), channels, *sizes]
    generator = torch.Generator().manual_seed(draw.randrange(2**31))
    return torch.randn(shape[1:] if draw.random() < 0.03 else shape, generator=generator)


def run(model: nn.Module, image: torch.Tensor, train: bool) -> None:
    model.train(train)
    maps = model(image)
    batch, _, height, width = image.shape
    strides = STRIDES
    if type(model).__name__ == 'PlainViT':
        strides = (model.vit.patch_size,) * len(model.out_indices)
    expected = [
        (batch, c, -(-height // s), -(-width // s))
        for c, s in zip(model.out_channels, strides, strict=True)
    ]
    assert [tuple(x.shape) for x in maps] == expected
    assert all(x.isfinite().all() for x in maps), 'maps are not finite'
    if train and any(x.requires_grad for x in maps):
        sum(x.square().mean() for x in maps).backward()
        bad = [
            n
            for n, p in model.named_parameters()
            if p.grad is not None and not p.grad.isfinite().all()
        ]
        assert not bad, f'gradients are not finite: {bad}'


@cases(260)
def test_random_models(case: int) -> None:
    draw = numbers('models', case)
    torch.manual_seed(case)
    config, wrong = draw_config(draw)
    built: list[nn.Module] = []
    message = refusal(
        lambda: built.append(MODELS.build(config)),
        str(config),
        named=wrong and (*wrong, *RIGHTLY_REFUSED),
    )
    if not built:
        assert wrong or message.endswith(RIGHTLY_REFUSED), f'{config}: {message}'
        return
    backbone = built[0]
    image, train = draw_image(draw, backbone), draw.random() < 0.5
    shape = tuple(image.shape)
    what = f'{config} on {shape}, {"train" if train else "eval"}'
    size = f'{image.shape[-2]}x{image.shape[-1]}'
    accepted = HEADS if wrong and wrong[0] in ('embed_dim', 'num_heads') else ()
    named = (size, str(shape))
    message = refusal(lambda: run(backbone, image, train), what, named=named, accepted=accepted)
    if message and message.startswith('RuntimeError'):
        return
    is_small = min(shape[-2:]) < 32 and config['type'] != 'PlainViT'
    fits = len(shape) == 4 and shape[1] == channels_of(backbone) and not is_small
    assert (message is None) == fits, f'{what}: {message}'
