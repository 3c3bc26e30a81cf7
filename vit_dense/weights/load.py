"""Loading weights of any common layout into a timm ViT, with an account of what happened."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from .convert import ConversionError, to_timm_names
from .diagnose import Anatomy, depth_of, explain
from .foreign import recognise_foreign
from .layouts import name_layout
from .names import from_openmmlab, strip_wrappers
from .read import read_tensors
from .report import CheckpointMismatchError, LoadReport, shorten
from .resize import fit_channels, fit_kernel, fit_line_tables, fit_positions

__all__ = ['load_vit_weights']

# The classifier of a model; it neither has to be in a file nor counts.
_HEAD = re.compile(r'^(?:head|head_dist)\.')
# What an encoder leaves behind in a file: classifiers, what pools for them, pre-training decoders
# and projections, and tables that follow from the geometry.
_LEFT_BEHIND = re.compile(
    r'^(?:heads?|head_dist|fc|classifier|cls_head|pre_logits|fc_norm|attn_pool|MAPHead_0|lm_head'
    r'|decoder_\w+|mask_token|cls_pt_layers|dino_head|ibot_head|projectors?|neck|rope)(?:[./]|$)'
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
_NO_CLS_TOKEN = "the released networks have no cls token: set vit.type='ReleasedTimmViT'"
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
    CLIP, ...), Google's AugReg `.npz`, the ViTs of mmpretrain and mmseg, the ViT inside a released
    ViT-Adapter or ViT-CoMer, and checkpoints of this package. On an error the model is left as it
    was.

    Args:
        model: A timm ViT module, normally built with `num_classes=0`.
        source: Local file (see `read_checkpoint`), or a state dict.
        min_matched: Share of the model's parameters, in [0, 1], that must come from the file.
            Above 0, blocks, positions and patch embedding must also agree part by part; 0 takes
            whatever fits, another depth too. A wrong shape is an error in any case.
        antialias: Low-pass when a grid or kernel shrinks, as timm does; the released ViT-Adapter
            weights were trained without.
        resize_patch: Whether a patch kernel of another size is resized or refused.
        pos_grid: (rows, columns) of the file's position grid; needed only where it is not square
            and not the model's.
        leave_out: Names (timm's) that the model goes without on purpose, such as 'cls_token'.

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
    raw, name, section = read_tensors(source)
    report = LoadReport(source=name, section=section)
    raw = _take_vit(raw, model, report)
    anatomy = Anatomy.of(from_openmmlab(strip_wrappers(raw)[0]))
    try:
        state, report.prefix, outside = to_timm_names(raw, model, antialias)
        report.outside += outside
        anatomy = Anatomy.of(state) if depth_of(state) else anatomy
        report.resized = _resized_by_filter(raw, state, report.prefix)
        _fit(state, model, report, antialias, pos_grid)
    except (ConversionError, ValueError) as error:
        raise _mismatch(report, anatomy, model, str(error)) from error
    fitting = _sort_out(state, model, report, leave_out)
    reason = _reason_to_refuse(report, model, min_matched, resize_patch)
    if reason:
        raise _mismatch(report, anatomy, model, reason)
    with torch.no_grad():
        model.load_state_dict(fitting, strict=False)
    return report


def _take_vit(raw: dict[str, Tensor], model: nn.Module, report: LoadReport) -> dict[str, Tensor]:
    """The ViT's part of a released adapter, noted in the report; other files as they are."""
    released = recognise_foreign(raw)
    if released is None:
        report.recognised = name_layout(raw)
        return raw
    vit, report.adapted = released.bare_vit(model.state_dict())
    report.recognised, report.outside = str(released), len(raw) - len(released.vit_names)
    report.notes.append('The ViT alone is taken; load_from takes the adapter, too')
    return vit


def _resized_by_filter(
    raw: dict[str, Tensor], state: dict[str, Tensor], prefix: str
) -> dict[str, str]:
    """What timm's own filter resized: relative position tables."""
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


def _sort_out(
    state: dict[str, Tensor], model: nn.Module, report: LoadReport, leave_out: Sequence[str]
) -> dict[str, Tensor]:
    """Fill the report's lists and return the tensors that fit."""
    expected = model.state_dict()
    fitting: dict[str, Tensor] = {}
    for name, tensor in state.items():
        target = expected.get(name)
        if target is not None and target.shape == tensor.shape:
            fitting[name] = tensor
        elif _HEAD.match(name) or (
            target is None and (name in leave_out or _left_behind(name, expected))
        ):
            report.ignored.append(name)
        elif target is None:
            report.unexpected.append(name)
        else:
            report.mismatched[name] = (tuple(tensor.shape), tuple(target.shape))
    encoder = {name: t.numel() for name, t in expected.items() if not _HEAD.match(name)}
    report.loaded = list(fitting)
    report.missing = [n for n in encoder if n not in fitting and n not in report.mismatched]
    report.resized = {name: what for name, what in report.resized.items() if name in fitting}
    count = sum(size for name, size in encoder.items() if name in fitting)
    report.matched = count / max(1, sum(encoder.values()))
    return fitting


def _left_behind(name: str, expected: Mapping[str, Tensor]) -> bool:
    """Whether an encoder without head has no use for a tensor.

    The final norm is one where the model was built without; where it has one, the norm in the
    file has that name already, and a norm after pooling (`fc_norm`) is another thing.
    """
    final_norm = name.startswith('norm.') and 'norm.weight' not in expected
    return final_norm or bool(_LEFT_BEHIND.search(name))


def _reason_to_refuse(
    report: LoadReport,
    model: nn.Module,
    min_matched: float,
    resize_patch: bool,
) -> str:
    """Why these weights must not be loaded; empty if they may."""
    total = len(report.loaded) + len(report.missing) + len(report.mismatched)
    share = f'{len(report.loaded)} of {total} tensors = {report.matched:.1%} of the parameters'
    if report.mismatched:
        return f'{len(report.mismatched)} tensors have another shape; {share} fit'
    if report.matched < min_matched or not report.loaded:
        wanted = f'at least {min_matched:.0%} must (min_matched)' if report.loaded else 'not one'
        return f'{share} fit, {wanted}'
    # Few parameters, yet another network: a block, LayerScale, a bias, the positions.
    parts = _foreign_parts(report, model) if min_matched > 0 else []
    if parts:
        advice = ''
        if report.is_released and 'cls_token' in parts:
            advice = f'; {_NO_CLS_TOKEN}'
        if 'norm.weight' in report.missing:
            advice += '; the file has no final norm: leave final_norm out'
        return f'{share} fit, but the networks differ in {shorten(parts)}{advice}'
    kernel = report.resized.get('patch_embed.proj.weight', '')
    if not resize_patch and 'kernel' in kernel:
        return (
            f'its patch_size differs ({kernel}), and nobody asked for that size: set '
            f'model_kwargs=dict(patch_size=...) in TimmViT to have the kernel resized'
        )
    return ''


def _foreign_parts(report: LoadReport, model: nn.Module) -> list[str]:
    """Names that make file and model different functions, however few parameters they hold.

    A LayerScale that the file lacks is none where the model's is 1 everywhere: the recipes of
    ViT-Adapter fine-tune DeiT so. A distillation token that the model has not is left behind, as
    is done with distilled DeiTs everywhere.
    """
    own = model.state_dict()
    return [
        name
        for name in [*report.missing, *report.unexpected]
        if _ESSENTIAL.match(name)
        and not (name == 'dist_token' and name not in own)
        and not (name in own and _LAYER_SCALE.search(name) and bool((own[name] == 1).all()))
    ]


def _mismatch(
    report: LoadReport, anatomy: Anatomy, model: nn.Module, reason: str
) -> CheckpointMismatchError:
    """Build the one error: what was given, why it does not fit, what to do."""
    place = f' [{report.section}]' if report.section else ''
    lines = [
        f'{report.source}{place} does not fit {type(model).__name__}: {reason}',
        f'  {explain(anatomy, Anatomy.of(model.state_dict()))}',
    ]
    for name, (in_file, in_model) in list(report.mismatched.items())[:3]:
        lines.append(f'  wrong shape: {name} is {in_file} in the file, {in_model} in the model')
    if report.missing:
        lines.append(f'  missing ({len(report.missing)}): {shorten(report.missing)}')
    if report.unexpected:
        lines.append(f'  unexpected ({len(report.unexpected)}): {shorten(report.unexpected)}')
    if not report.mismatched and report.loaded:
        lines.append('  checkpoint=dict(path=..., min_matched=0) accepts whatever fits by shape')
    return CheckpointMismatchError('\n'.join(lines), report)
