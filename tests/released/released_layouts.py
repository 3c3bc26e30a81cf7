"""Tiny released checkpoints, written from their names and shapes, with values from a formula.

The names are those of the released ViT-Adapter and ViT-CoMer; their own modules load these state
dicts strictly. What they then computed on `image()`, on its left part `square()` for BEiT in
segmentation, is in `checkpoint/recorded_outputs.json`.
"""

import math

import torch
from torch import Tensor

WIDTH, DEPTH, VIT_HEADS, DEFORM_HEADS, INPLANES, GRID, POINTS = 32, 4, 2, 2, 8, 4, 4
WINDOW = 3  # tokens; does not divide the image's 4x6
BEIT_WINDOWS = (2, 3, 4, 7)  # of the blocks
MRFP_WIDTH = {'segmentation': 2 * WIDTH, 'detection': WIDTH // 2}
Shapes = dict[str, tuple[int, ...]]


def image() -> Tensor:
    """(2, 3, 64, 96)."""
    return fill(7, (2, 3, 64, 96))


def square() -> Tensor:
    """(2, 3, 64, 64), the size of the grid; released BEiTs take no other."""
    return image()[..., :64]


def fill(seed: int, shape: tuple[int, ...]) -> Tensor:
    """Values in -1..1 without visible order, the same on every machine."""
    index = torch.arange(math.prod(shape), dtype=torch.float64)
    return torch.sin(0.37 * index * index + 1.7 * seed).float().reshape(shape)


def released_state(
    method: str, task: str, *, layer_scale: bool = True, variant: str = ''
) -> dict[str, Tensor]:
    """A released backbone's state dict.

    Args:
        method: 'ViTAdapter' or 'ViTCoMer'.
        task: 'segmentation' or 'detection'.
        layer_scale: whether the ViT has one.
        variant: of ViTAdapter: 'light' (one stage, no FFN, nothing extra), 'MAE' (nothing extra) or
            'BEiT'; '' for the usual one.
    """
    beit = variant == 'BEiT'
    shapes = beit_shapes(task) if beit else vit_shapes(layer_scale=layer_scale)
    shapes |= stem_shapes()
    stages = 1 if variant == 'light' else DEPTH
    for i in range(stages):
        last = i == stages - 1
        if method == 'ViTCoMer':
            stage = comer_stage(task, last=last)
        else:
            stage = adapter_stage(last and variant in ('', 'BEiT'), ffn=variant != 'light')
        shapes |= below(f'interactions.{i}', stage)
    return {name: value(name, i, shape) for i, (name, shape) in enumerate(shapes.items())}


def value(name: str, seed: int, shape: tuple[int, ...]) -> Tensor:
    """One tensor, of the size that its part in the network asks for."""
    if name.endswith('num_batches_tracked'):
        return torch.tensor(3)
    if name.endswith('relative_position_index'):
        return torch.zeros(shape, dtype=torch.int64)  # follows from the grid, nobody reads it
    wave = fill(seed, shape)
    if name.endswith('running_var'):
        return 1 + 0.3 * wave.abs()
    if name.endswith('sampling_offsets.bias'):
        return 2 * wave
    if len(shape) > 1:
        return wave * (1.0 if name.endswith('embed') else math.prod(shape[1:]) ** -0.5)
    if 'gamma' in name or name.endswith('weight'):
        return 1 + 0.2 * wave
    return 0.1 * wave


def below(prefix: str, shapes: Shapes) -> Shapes:
    """The names with a prefix."""
    return {f'{prefix}.{name}': shape for name, shape in shapes.items()}


def affine(name: str, *shape: int) -> Shapes:
    """A layer with a bias, or a norm (one number)."""
    return {f'{name}.weight': shape, f'{name}.bias': shape[:1]}


def batch_norm(name: str, channels: int) -> Shapes:
    """A norm with running statistics."""
    return affine(name, channels) | {
        f'{name}.running_mean': (channels,),
        f'{name}.running_var': (channels,),
        f'{name}.num_batches_tracked': (),
    }


def vit_shapes(*, layer_scale: bool) -> Shapes:
    """The ViT of both releases: a position for a cls token, but no such token, no final norm."""
    shapes: Shapes = {'pos_embed': (1, GRID * GRID + 1, WIDTH)}
    shapes |= affine('patch_embed.proj', WIDTH, 3, 16, 16)
    for i in range(DEPTH):
        block = affine('norm1', WIDTH) | affine('norm2', WIDTH)
        block |= affine('attn.qkv', 3 * WIDTH, WIDTH) | affine('attn.proj', WIDTH, WIDTH)
        block |= affine('mlp.fc1', 4 * WIDTH, WIDTH) | affine('mlp.fc2', WIDTH, 4 * WIDTH)
        block |= {'gamma1': (WIDTH,), 'gamma2': (WIDTH,)} if layer_scale else {}
        shapes |= below(f'blocks.{i}', block)
    return shapes


def beit_shapes(task: str) -> Shapes:
    """BEiT's ViT: a table in each block, for windows in detection, for a cls token elsewhere."""
    shapes: Shapes = {'cls_token': (1, 1, WIDTH)} if task == 'segmentation' else {}
    shapes |= affine('patch_embed.proj', WIDTH, 3, 16, 16)
    for i in range(DEPTH):
        edge, extra = (GRID, 3) if task == 'segmentation' else (BEIT_WINDOWS[i], 0)
        cells = edge * edge + bool(extra)
        block = affine('norm1', WIDTH) | affine('norm2', WIDTH)
        block |= {'attn.q_bias': (WIDTH,), 'attn.v_bias': (WIDTH,)}
        block |= {'attn.qkv.weight': (3 * WIDTH, WIDTH)} | affine('attn.proj', WIDTH, WIDTH)
        block |= {'attn.relative_position_bias_table': ((2 * edge - 1) ** 2 + extra, VIT_HEADS)}
        block |= {'attn.relative_position_index': (cells, cells)}
        block |= affine('mlp.fc1', 4 * WIDTH, WIDTH) | affine('mlp.fc2', WIDTH, 4 * WIDTH)
        shapes |= below(f'blocks.{i}', block | {'gamma_1': (WIDTH,), 'gamma_2': (WIDTH,)})
    return shapes


def stem_shapes() -> Shapes:
    """The convolutional branch and the output's layers."""
    shapes: Shapes = {'level_embed': (3, WIDTH)}
    for index, channels in ((0, 3), (3, INPLANES), (6, INPLANES)):
        shapes |= {f'spm.stem.{index}.weight': (INPLANES, channels, 3, 3)}
        shapes |= batch_norm(f'spm.stem.{index + 1}', INPLANES)
    for level, (channels, out) in enumerate(((1, 2), (2, 4), (4, 4)), start=2):
        shapes |= {f'spm.conv{level}.0.weight': (out * INPLANES, channels * INPLANES, 3, 3)}
        shapes |= batch_norm(f'spm.conv{level}.1', out * INPLANES)
    for level, channels in enumerate((1, 2, 4, 4), start=1):
        shapes |= affine(f'spm.fc{level}', WIDTH, channels * INPLANES, 1, 1)
        shapes |= batch_norm(f'norm{level}', WIDTH)
    return shapes | {'up.weight': (WIDTH, WIDTH, 2, 2), 'up.bias': (WIDTH,)}


def attention(levels: int) -> Shapes:
    """A deformable attention and the norms before it."""
    samples = DEFORM_HEADS * levels * POINTS
    return (
        affine('query_norm', WIDTH)
        | affine('feat_norm', WIDTH)
        | affine('attn.sampling_offsets', 2 * samples, WIDTH)
        | affine('attn.attention_weights', samples, WIDTH)
        | affine('attn.value_proj', WIDTH // 2, WIDTH)
        | affine('attn.output_proj', WIDTH, WIDTH // 2)
    )


def feed_forward() -> Shapes:
    """A convolutional FFN and the norm before it."""
    hidden = WIDTH // 4
    return (
        affine('ffn.fc1', hidden, WIDTH)
        | affine('ffn.dwconv.dwconv', hidden, 1, 3, 3)
        | affine('ffn.fc2', WIDTH, hidden)
        | affine('ffn_norm', WIDTH)
    )


def adapter_stage(extra: bool, *, ffn: bool) -> Shapes:
    """ViT-Adapter's; both tasks are alike."""
    extractor = attention(1) | (feed_forward() if ffn else {})
    shapes = below('injector', attention(3) | {'gamma': (WIDTH,)}) | below('extractor', extractor)
    for i in range(2 if extra else 0):
        shapes |= below(f'extra_extractors.{i}', extractor)
    return shapes


def comer_stage(task: str, *, last: bool) -> Shapes:
    """ViT-CoMer's; the tasks differ in a width."""
    hidden = MRFP_WIDTH[task]
    shapes = affine('mrfp.fc1', hidden, WIDTH) | affine('mrfp.fc2', WIDTH, hidden)
    for i in range(6):
        size = 5 if i % 2 else 3
        shapes |= affine(f'mrfp.dwconv.dwconv{i + 1}', hidden // 2, 1, size, size)
    for i in range(3):
        shapes |= batch_norm(f'mrfp.dwconv.bn{i + 1}', hidden)
    inner = attention(3) | feed_forward()
    shapes |= below('cti_tov', inner | {'gamma': (WIDTH,)})
    outer = affine('query_norm', WIDTH) | affine('feat_norm', WIDTH) | below('cfinter', inner)
    shapes |= below('cti_toc', outer)
    for i in range(4 if last else 0):
        shapes |= below(f'extra_CTIs.{i}', outer | feed_forward())
    return shapes
