"""Turning any author's ViT layout into timm's names, by timm's own rules.

timm keeps one `checkpoint_filter_fn` per family that renames a dozen foreign layouts (DINOv2,
CLIP, EVA, BEiT, SAM, ...) and resizes along the way. The renaming is used as it is. The resizing
is done here (`resize`), because timm's assumes a square source grid and the model's own layout of
prefix tokens: the filter is therefore shown a view of the model that agrees with the file.
"""

import contextlib
import copy
import inspect
import io
import math
import re
import sys
from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor, nn

from .names import ViTNames

__all__ = ['FILTER_ERRORS', 'ConversionError', 'find_filter', 'to_timm_names']

_FILTERS = ('checkpoint_filter_fn', 'checkpoint_filter_fn_encoder')

_KERNEL = re.compile(r'(?:^|\.)(?:patch_embed\.proj|conv1|patchifier\.proj)\.weight$')
_RGB = 3
_TABLE = 'relative_position_bias_table'
_SHARED_TABLE = f'rel_pos_bias.{_TABLE}'
_IN_BLOCK = re.compile(r'(blocks\.\d+\.)(.+)')
# A layer of one piece, and the sets of names that its parts have in models of several.
_FUSED: dict[str, tuple[tuple[str, ...], ...]] = {
    'attn.qkv.weight': (('attn.q_proj.weight', 'attn.k_proj.weight', 'attn.v_proj.weight'),),
    'attn.qkv.bias': (
        ('attn.q_bias', 'attn.k_bias', 'attn.v_bias'),
        ('attn.q_proj.bias', 'attn.k_proj.bias', 'attn.v_proj.bias'),
    ),
    'mlp.w12.weight': (('mlp.fc1_g.weight', 'mlp.fc1_x.weight'),),
    'mlp.w12.bias': (('mlp.fc1_g.bias', 'mlp.fc1_x.bias'),),
}
_RECTANGLE = ' Set model_kwargs=dict(img_size=(height, width)) to that of the training.'
_KEY_BIASES = ('attn.k_bias', 'attn.k_proj.bias')
# What timm's filters raise on files of another family.
FILTER_ERRORS = (
    AttributeError,
    KeyError,
    IndexError,
    RuntimeError,
    ValueError,
    AssertionError,
)


class ConversionError(ValueError):
    """timm's filter could make nothing of the file."""


def to_timm_names(names: ViTNames, model: nn.Module, antialias: bool) -> dict[str, Tensor]:
    """Rename a file's tensors to those of the timm model.

    Args:
        names: The ViT in the file, from `bare_vit_names`.
        model: The timm model to load into; tells the family, is not changed.
        antialias: For what timm's filter resizes itself.

    Returns:
        The tensors under timm's names, not yet of the model's shapes (relative position tables
        excepted).

    Raises:
        ConversionError: If timm's filter fails on the file, which says that it is another
            family's.
    """
    renamed = dict(names.tensors)
    if names.origin == 'google':
        return renamed
    if names.origin == 'openmmlab':
        _check_rotation(renamed)
        renamed = _split_fused(_add_patch_bias(renamed, model), model)
    tensors = _share_out_table(_unflatten(renamed, model), model)
    # BEiT's filter resizes positions unconditionally; the others leave them alone in the view.
    guarded = not type(model).__module__.endswith('.beit')
    positions = None if guarded else tensors.pop('pos_embed', None)
    out = _filter(tensors, model, antialias) | _lost_biases(tensors, model)
    if positions is not None:
        out['pos_embed'] = positions
    return _settle_layer_scale(_settle_norm(out, tensors, model), model)


def _filter(tensors: dict[str, Tensor], model: nn.Module, antialias: bool) -> dict[str, Tensor]:
    filter_fn = find_filter(model)
    if filter_fn is None:
        return dict(tensors)
    accepted = inspect.signature(filter_fn).parameters
    options = {'antialias': antialias} if 'antialias' in accepted else {}
    try:
        # timm 1.0.31 prints when a DINOv3 file has attention biases that the model lacks.
        with contextlib.redirect_stdout(io.StringIO()):
            return dict(filter_fn(dict(tensors), _view(model, tensors), **options))
    except FILTER_ERRORS as err:
        # timm cannot tell the grid of a table that was trained on another rectangle.
        advice = _RECTANGLE if 'relative position table' in str(err) else ''
        raise ConversionError(f'{type(err).__name__}: {err}{advice}') from err


def _lost_biases(tensors: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Return biases of query and value that timm's filter of DINOv3 drops, to be refused.

    It drops them where the model has none, as they are zero in most releases. Those of keys, which
    DINOv3 masks, do not count.
    """
    if 'storage_tokens' not in tensors or 'blocks.0.attn.q_bias' in model.state_dict():
        return {}
    biases = {name: t for name, t in tensors.items() if name.endswith('.attn.qkv.bias')}
    return {k: t for k, t in biases.items() if any(bool(p.any()) for p in t.chunk(3)[::2])}


def find_filter(model: nn.Module) -> Callable[..., dict[str, Tensor]] | None:
    """Return timm's filter of the family that a model belongs to; None if it has none.

    Where timm wraps an encoder in a classifier, and has a filter for each, the encoder's.
    """
    modules = [c.__module__ for c in type(model).__mro__ if c.__module__.startswith('timm.')]
    for module, name in product(modules, _FILTERS):
        found: Callable[..., dict[str, Tensor]] | None
        found = getattr(sys.modules.get(module), name, None)
        if found is not None:
            return found
    return None


def _view(model: nn.Module, tensors: dict[str, Tensor]) -> nn.Module:
    """Return a shallow copy whose patch kernel has the file's size and which has no positions.

    With it timm's filter renames and leaves kernel and grid alone. Nothing of the model changes:
    the dictionaries that are edited are copies.
    """
    if any(name.startswith('radio_model.') for name in tensors):
        return model  # RADIO's positions lie in a grid of their own, which timm's filter resolves
    view = _shallow(model)
    if 'pos_embed' in view._parameters:
        view._parameters['pos_embed'] = None
    kernel = next((t for name, t in tensors.items() if t.ndim == 4 and _KERNEL.search(name)), None)
    patch_embed = getattr(model, 'patch_embed', None)
    projection = getattr(patch_embed, 'proj', None)
    if kernel is not None and patch_embed is not None and isinstance(projection, nn.Conv2d):
        view_of_projection = _shallow(projection)
        weight = nn.Parameter(torch.empty(kernel.shape, device='meta'), requires_grad=False)
        view_of_projection._parameters['weight'] = weight
        view_of_embed = _shallow(patch_embed)
        view_of_embed._modules['proj'] = view_of_projection
        view._modules['patch_embed'] = view_of_embed
    return view


def _shallow(module: nn.Module) -> nn.Module:
    twin = copy.copy(module)
    twin.__dict__['_parameters'] = dict(module._parameters)
    twin.__dict__['_modules'] = dict(module._modules)
    return twin


def _add_patch_bias(tensors: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Add a bias of zero where mmseg's ViT, by default, projects patches without."""
    name = 'patch_embed.proj.bias'
    target = model.state_dict().get(name)
    if target is None or name in tensors:
        return tensors
    return tensors | {name: torch.zeros(target.shape)}


def _check_rotation(tensors: dict[str, Tensor]) -> None:
    """Refuse an EVA-02 that mmpretrain trained with its own rotary positions.

    EVA-02 turns neighbouring channels by one angle. mmpretrain 1.2 does so as long as it keeps the
    angles of a converted file; what it computes itself, for another image size, is laid out
    otherwise, and no timm model computes that.
    """
    for name, angles in tensors.items():
        if name.endswith('rope.freqs_cos') and not torch.equal(angles[:, ::2], angles[:, 1::2]):
            raise ConversionError(
                f'{name} turns the channels of a pair by two angles: mmpretrain trained this '
                f"EVA-02 with rotary positions that are not EVA-02's, which no timm model has; "
                f"use the weights that it was initialised from, or train again from timm's"
            )


def _split_fused(tensors: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Split layers that OpenMMLab's ViTs have in one, and BEiT or EVA in several.

    The bias of keys, which neither has, adds the same to all logits of a query, which the softmax
    does not see; but with rotary positions it does. One that matters stays, to be refused.
    """
    expected = model.state_dict()
    rotary = getattr(model, 'rope', None) is not None
    out: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        match = _IN_BLOCK.match(name)
        block, layer = match.groups() if match else ('', name)
        sets = _FUSED.get(layer, ()) if name not in expected else ()
        names = next((parts for parts in sets if block + parts[0] in expected), None)
        if names is None:
            out[name] = tensor
            continue
        for part, piece in zip(names, tensor.chunk(len(names)), strict=True):
            if part not in _KEY_BIASES or (rotary and bool(piece.any())):
                out[block + part] = piece
    return out


def _unflatten(tensors: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Shape a linear patch projection (C, in_chans * p * p) as a kernel (C, in_chans, p, p)."""
    name = 'patch_embed.proj.weight'
    kernel, target = tensors.get(name), model.state_dict().get(name)
    if kernel is None or kernel.ndim != 2 or target is None or target.ndim != 4:
        return tensors
    for channels in dict.fromkeys((int(target.shape[1]), _RGB)):
        area, rest = divmod(int(kernel.shape[1]), channels)
        side = math.isqrt(area)
        if rest == 0 and side * side == area:
            return tensors | {name: kernel.reshape(-1, channels, side, side)}
    return tensors


def _share_out_table(tensors: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Give each block BEiT's pre-training table, which all blocks share in the file."""
    wanted = [name for name in model.state_dict() if name.endswith(f'.attn.{_TABLE}')]
    if _SHARED_TABLE not in tensors or not wanted:
        return tensors
    shared = {name: tensors[_SHARED_TABLE].clone() for name in wanted}
    return {k: v for k, v in tensors.items() if k != _SHARED_TABLE} | shared


def _settle_norm(
    out: dict[str, Tensor], tensors: dict[str, Tensor], model: nn.Module
) -> dict[str, Tensor]:
    """Undo EVA's move of the final norm to `fc_norm` where the model has a final norm."""
    expected = model.state_dict()
    for kind in ('weight', 'bias'):
        final, pooled = f'norm.{kind}', f'fc_norm.{kind}'
        moved = final in tensors and final not in out and pooled not in tensors
        if moved and final in expected and pooled not in expected and pooled in out:
            out[final] = out.pop(pooled)
    return out


def _settle_layer_scale(out: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Name LayerScale as the model does: `ls1.gamma` (ViT), `gamma_1` (BEiT, EVA)."""
    expected = model.state_dict()
    if 'blocks.0.ls1.gamma' in expected:
        return {re.sub(r'\.gamma_?([12])$', r'.ls\1.gamma', k): v for k, v in out.items()}
    if 'blocks.0.gamma_1' in expected:
        return {
            re.sub(r'\.(?:ls|gamma)([12])(?:\.gamma)?$', r'.gamma_\1', k): v for k, v in out.items()
        }
    return out
