"""Load weights of any common layout into a timm model, and report what happened to each tensor.

Both loaders take the same steps: read, identify, convert to timm's names, resize, compare, refuse
or load. On an error the model is left as it was.
"""

import inspect
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .convert import FILTER_ERRORS, find_filter, to_timm_names
from .foreign import recognise_foreign
from .identify import Identity, depth_of, explain, name_layout
from .match import (
    CheckpointMismatchError,
    LoadReport,
    compare,
    require,
    require_finite,
    shorten,
    shortfall,
)
from .names import bare_vit_names, strip_prefix
from .read import read_tensors
from .resize import fit_channels, fit_kernel, fit_line_tables, fit_positions

__all__ = ['load_pyramid_weights', 'load_vit_weights']

# The classifier of a model; it neither has to be in a file nor counts.
_HEAD = re.compile(r'^(?:head|head_dist)\.')
# What an encoder leaves behind in a file: classifiers, what pools for them, pre-training decoders
# and projections, and tables that follow from the geometry.
_LEFT_BEHIND = re.compile(
    r'^(?:heads?|head_dist|fc|classifier|cls_head|pooler|pre_logits|fc_norm|attn_pool|MAPHead_0'
    r'|lm_head|decoder_\w+|mask_token|cls_pt_layers|dino_head|ibot_head|projectors?|neck|rope)'
    r'(?:[./]|$)'
    r'|relative_position_index$'
)
# What no encoder can do without, or have too much of, and still be the same function.
_ESSENTIAL = re.compile(
    r'^(?:blocks|patch_embed|pixel_embed|proj|norm_pre|norm|rel_pos_bias)\.'
    r'|^(?:pos_embed|patch_pos|pixel_pos|cls_token|reg_token|dist_token|rope\.freqs)$'
)
_NO_SLOT = (
    'positions were taken for a square grid with none for the cls token; if the weights were '
    'trained on a rectangle, name it: pos_grid=(rows, columns)'
)
_LAYER_SCALE = re.compile(r'\.(?:ls[12]\.gamma|gamma_[12])$')


def load_vit_weights(
    model: nn.Module,
    source: str | Path | Mapping[str, Tensor],
    *,
    min_matched: float = 0.9,
    antialias: bool = True,
    resize_patch: bool = True,
    pos_grid: tuple[int, int] | None = None,
    leave_out: Sequence[str] = (),
) -> LoadReport:
    """Load weights into a timm ViT of possibly other image size, patch size and input channels.

    Understood are timm's own files and training checkpoints, the layouts that timm's
    `checkpoint_filter_fn` of the model's family converts (DeiT, MAE, DINO, DINOv2, BEiT, EVA-02,
    CLIP, ...), Google's AugReg `.npz`, the ViTs of mmpretrain, mmseg and Hugging Face, the ViT
    inside a model that `weights.foreign` recognises, and checkpoints of this package.

    Args:
        model: A timm ViT module, normally built with `num_classes=0`.
        source: Local file or folder (see `read_checkpoint`), or a state dict.
        min_matched: Share of the model's parameters, in [0, 1], that must come from the file.
            Above 0, blocks, positions and patch embedding must also agree part by part; 0 takes
            whatever fits, another depth too. A wrong shape is an error in any case.
        antialias: Low-pass when a grid or kernel shrinks, as timm does; the released ViT-Adapter
            weights were trained without.
        resize_patch: Whether a patch kernel of another size is resized or refused.
        pos_grid: (rows, columns) of the file's position grid; needed only where it is not square
            and not the model's.
        leave_out: Names (timm's) that the model was built without, such as 'cls_token'.

    Returns:
        What became of each tensor; its `str` is meant for the log.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointReadError: If the file is truncated, unsafe or no weight file.
        CheckpointMismatchError: If the weights do not belong to the model.
        ValueError: If `min_matched` is not in [0, 1].
    """
    if not 0 <= min_matched <= 1:
        raise ValueError(f'min_matched={min_matched} is not a share in [0, 1]')
    raw, name, section, record = read_tensors(source)
    report = LoadReport(source=name, section=section, record=record)
    raw, hint = _take_vit(raw, model, report)
    identity = Identity.of(raw)
    try:
        names = bare_vit_names(raw)
        report.prefix = names.prefix
        report.outside += names.outside
        identity = Identity.of(names.tensors)
        state = to_timm_names(names, model, antialias)
        identity = Identity.of(state) if depth_of(state) else identity
        report.resized = _resized_by_filter(raw, state, report.prefix)
        _fit(state, model, report, antialias, pos_grid)
    except FILTER_ERRORS as error:  # such as a tensor of another rank than its name promises
        reason = str(error) if isinstance(error, ValueError) else repr(error)
        raise _mismatch(report, identity, model, reason) from error
    expected = model.state_dict()
    fitting = compare(
        state,
        expected,
        report,
        ignored=lambda name: (
            bool(_HEAD.match(name))
            or (name not in expected and (name in leave_out or _left_behind(name, expected)))
        ),
    )
    reason = shortfall(
        report, min_matched=min_matched, option='min_matched', leftovers=True
    ) or _other_reason(report, expected, hint, whole=min_matched > 0, resize_patch=resize_patch)
    if reason:
        raise _mismatch(report, identity, model, reason)
    require_finite(fitting, model, report)
    with torch.no_grad():
        model.load_state_dict(fitting, strict=False)
    return report


def load_pyramid_weights(
    model: nn.Module, source: str | Path | Mapping[str, Tensor], *, whole: nn.Module
) -> LoadReport:
    """Load weights into a hierarchical timm model: all of them or none.

    Unlike a ViT, whose grid and patches may differ from the file's, such a model has nothing but
    its input channels to resize here: what timm's own filter of the family does not convert does
    not fit.

    Args:
        model: The timm model, without the layers that no map needs.
        source: Local file (see `read_checkpoint`), or a state dict: timm's own names or those that
            the `checkpoint_filter_fn` of the family converts, either behind any prefix.
        whole: The model with all its layers, which tells the names that a file may have; may be on
            the meta device.

    Returns:
        What became of each tensor.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointReadError: If it is no weight file.
        CheckpointMismatchError: If the file lacks a tensor of the model, has one of another shape,
            or one that the whole model does not have.
    """
    tensors, name, section, _ = read_tensors(source)
    report = LoadReport(source=name, section=section)
    known = whole.state_dict()
    inside, report.prefix = strip_prefix(tensors, known.keys())
    report.outside = len(tensors) - len(inside)
    advice = 'choose the model_name that the weights belong to'
    try:
        state = _filter_pyramid(inside, whole)
    except FILTER_ERRORS as error:
        reason = f'timm cannot convert it ({error})'
        raise CheckpointMismatchError(
            report, type(model).__name__, reason, advice=advice
        ) from error
    report.resized = fit_channels(state, model)
    heads = _classifiers(model)
    expected = model.state_dict()
    fitting = compare(
        state,
        expected,
        report,
        ignored=lambda name: name not in expected and (name in known or name.startswith(heads)),
    )
    require(report, type(model).__name__, advice=advice)
    require_finite(fitting, model, report)
    with torch.no_grad():
        model.load_state_dict(fitting, strict=False)
    return report


def _take_vit(
    raw: dict[str, Tensor], model: nn.Module, report: LoadReport
) -> tuple[dict[str, Tensor], str]:
    """Return the ViT's part of a foreign model, noted in the report, and a hint for its refusal."""
    foreign = recognise_foreign(raw)
    if foreign is None:
        report.recognised = name_layout(raw)
        return raw, ''
    vit, report.adapted = foreign.bare_vit(model.state_dict())
    report.recognised, report.outside = str(foreign), len(raw) - len(foreign.vit_names)
    report.is_whole_model = True
    report.notes.append('The ViT alone is taken; load_from takes the adapter, too')
    return vit, foreign.vit_hint


def _resized_by_filter(
    raw: dict[str, Tensor], state: dict[str, Tensor], prefix: str
) -> dict[str, str]:
    """Return what timm's own filter resized: relative position tables."""
    pairs = ((name, raw.get(prefix + name), tensor) for name, tensor in state.items())
    return {
        name: f'table {tuple(old.shape)} -> {tuple(new.shape)}'
        for name, old, new in pairs
        if old is not None and old.shape != new.shape and name.endswith('bias_table')
    }


def _fit(
    state: dict[str, Tensor],
    model: nn.Module,
    report: LoadReport,
    antialias: bool,
    pos_grid: tuple[int, int] | None,
) -> None:
    """Resize in place what follows from the geometry, and note it in the report."""
    # Positions first: their grid may have to be told from the kernel in the file.
    if note := fit_positions(state, model, antialias=antialias, pos_grid=pos_grid):
        report.resized['pos_embed'] = note
        report.notes += [_NO_SLOT] if 'slots 0 ->' in note and pos_grid is None else []
    if note := fit_kernel(state, model, antialias=antialias):
        report.resized['patch_embed.proj.weight'] = note
    report.resized |= fit_channels(state, model)
    report.resized |= fit_line_tables(state, model.state_dict())


def _left_behind(name: str, expected: Mapping[str, Tensor]) -> bool:
    """Return whether an encoder without head has no use for a tensor.

    The final norm is one where the model was built without; where it has one, the norm in the
    file has that name already, and a norm after pooling (`fc_norm`) is another thing.
    """
    final_norm = name.startswith('norm.') and 'norm.weight' not in expected
    return final_norm or bool(_LEFT_BEHIND.search(name))


def _other_reason(
    report: LoadReport,
    expected: Mapping[str, Tensor],
    hint: str,
    *,
    whole: bool,
    resize_patch: bool,
) -> str:
    """Return why a ViT's weights must not be loaded although most of them fit; `''` if they may."""
    # Few parameters, yet another network: a block, LayerScale, a bias, the positions.
    parts = _foreign_parts(report, expected) if whole else []
    if parts:
        advice = f'; {hint}' if hint and 'cls_token' in parts else ''
        if 'norm.weight' in report.missing:
            advice += '; the file has no final norm: leave final_norm out'
        if any(name.endswith('.attn.qkv.bias') for name in report.unexpected):
            advice += '; the file has biases of attention: set model_kwargs=dict(qkv_bias=True)'
        return (
            f'{report.matched:.1%} of the parameters fit, but the networks differ in '
            f'{shorten(parts)}{advice}'
        )
    kernel = report.resized.get('patch_embed.proj.weight', '')
    if not resize_patch and 'kernel' in kernel:
        return (
            f'its patch_size differs ({kernel}), and the config does not set one: set '
            f'model_kwargs=dict(patch_size=...) in TimmViT to have the kernel resized'
        )
    return ''


def _foreign_parts(report: LoadReport, expected: Mapping[str, Tensor]) -> list[str]:
    """Return names that make file and model different functions, however few parameters they hold.

    A LayerScale that the file lacks is none where the model's is 1 everywhere: the recipes of
    ViT-Adapter fine-tune DeiT so. A distillation token that the model does not have is ignored, as
    is usual with distilled DeiTs.
    """
    return [
        name
        for name in [*report.missing, *report.unexpected]
        if _ESSENTIAL.match(name)
        and not (name == 'dist_token' and name not in expected)
        and not (
            name in expected and _LAYER_SCALE.search(name) and bool((expected[name] == 1).all())
        )
    ]


def _mismatch(
    report: LoadReport, identity: Identity, model: nn.Module, reason: str
) -> CheckpointMismatchError:
    accepts = 'checkpoint=dict(path=..., min_matched=0) accepts whatever fits by shape'
    return CheckpointMismatchError(
        report,
        type(model).__name__,
        reason,
        why=explain(identity, Identity.of(model.state_dict())),
        advice=accepts if report.loaded and not report.mismatched else '',
    )


def _filter_pyramid(tensors: dict[str, Tensor], whole: nn.Module) -> dict[str, Tensor]:
    filter_fn: Any = find_filter(whole)
    if filter_fn is None:
        return tensors
    takes_model = len(inspect.signature(filter_fn).parameters) > 1
    return dict(filter_fn(dict(tensors), *([whole] if takes_model else [])))


def _classifiers(model: Any) -> tuple[str, ...]:
    """Return beginnings of the names of a timm model's classifiers."""
    named = model.pretrained_cfg.get('classifier') or ()
    heads = ('head', named) if isinstance(named, str) else ('head', *named)
    return tuple(f'{head}.' for head in heads)
