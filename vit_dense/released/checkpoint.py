"""Released ViT-Adapter and ViT-CoMer checkpoints under our names.

A release writes the ViT's parts at the root of the backbone, where we keep them under
`vit.model.`; `released_heads` has the heads. The position of a cls token is in every file and in no
forward: it is dropped. LayerScale is `gamma1`, `gamma2` there; a ViT without has it multiplied into
the linear layer before it, which is the same function. BEiT has timm's names there.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..weights.match import LoadReport, compare, shorten
from ..weights.names import strip_parallel, strip_prefix
from .heads import rename_heads
from .settings import BEIT_TABLE, backbone_settings, describe, has_layer_scale

__all__ = ['COMMON', 'Released', 'recognise_released']

_VIT = 'vit.model.'
# What distinguishes the two, and tells both from a checkpoint of ours.
_METHODS = {
    'ViTAdapter': 'interactions.0.injector.query_norm.weight',
    'ViTCoMer': 'interactions.0.mrfp.fc1.weight',
}
COMMON = ('level_embed', 'spm.stem.0.weight')  # of all released adapters
_UNI_PERCEIVER = 'layers.0.self_attn.in_proj.weight'  # which timm has not
_RENAMED = (
    (r'^blocks\.(\d+)\.gamma([12])$', rf'{_VIT}blocks.\1.ls\2.gamma'),
    (r'^(blocks\.|patch_embed\.|pos_embed$|cls_token$)', rf'{_VIT}\1'),
    (r'\.ffn\.dwconv\.dwconv\.', '.ffn.dwconv.'),
    (r'\.extra_CTIs\.', '.extra_ctis.'),
    # ViT-CoMer counts its six kernels through: two for each of three levels
    *(
        (rf'\.mrfp\.dwconv\.dwconv{2 * level + i}\.', f'.mrfp.levels.{level}.conv{size}.')
        for level in range(3)
        for i, size in ((1, 3), (2, 5))
    ),
    *((rf'\.mrfp\.dwconv\.bn{level + 1}\.', f'.mrfp.levels.{level}.norm.') for level in range(3)),
)
_HEADS = ('decode_head.', 'auxiliary_head.', 'neck.', 'rpn_head.', 'roi_head.', 'bbox_head.')
_TASKS = {
    'segmentation': ('decode_head.',),
    'detection': ('rpn_head.', 'roi_head.', 'bbox_head.', 'panoptic_head.'),
}


@dataclass(frozen=True)
class Released:
    """A released checkpoint, recognised by its names.

    Attributes:
        method: Our type of that name, 'ViTAdapter' or 'ViTCoMer'.
        prefix: What stood before the backbone's names, such as 'backbone.'.
        backbone: Its tensors, as the release names them.
        others: All other tensors (neck, heads), as mmseg 1.x and mmdet 3.x name them.
    """

    method: str
    prefix: str
    backbone: dict[str, Tensor]
    others: dict[str, Tensor]

    @property
    def task(self) -> str | None:
        """'segmentation' or 'detection', told by the heads; None for a backbone alone."""
        found = (t for t, parts in _TASKS.items() if any(k.startswith(parts) for k in self.others))
        return next(found, None)

    @property
    def vit_names(self) -> list[str]:
        """Names of the ViT's own tensors in `backbone`."""
        return [name for name in self.backbone if _rename(name).startswith(_VIT)]

    @property
    def layer_scale(self) -> bool:
        """Whether the ViT has one."""
        return has_layer_scale(self.backbone)

    @property
    def is_beit(self) -> bool:
        """Whether the ViT is BEiT's: relative positions and a cls token."""
        return BEIT_TABLE in self.backbone

    vit_hint = "the released networks have no cls token: set vit.type='ReleasedTimmViT'"

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The backbone's config, as far as shapes and names tell it."""
        return backbone_settings(self.method, self.backbone, self.task)

    def __str__(self) -> str:
        what = f'{self.task} model' if self.task else 'backbone'
        on = ' on BEiT' if self.is_beit else ''
        return f'released {self.method}, {what}{on} ({describe(self.backbone)})'

    def differences(self, model: Any) -> list[str]:
        """Return settings, invisible in shapes, that make a model another function than this one.

        Args:
            model: A whole model of ours, or an adapter.

        Returns:
            One text for each, with the value to set.
        """
        adapter = getattr(model, 'backbone', model)
        vit = getattr(adapter, 'vit', None)
        pairs: list[tuple[str, Any, Any]] = []
        if not self.is_beit or self.task == 'detection':
            pairs += [('vit.type', type(vit).__name__, self.settings['vit']['type'])]
        if self.task is not None:
            source = getattr(adapter, 'vit_feature_source', None)
            pairs += [('vit_feature_source', source, self.settings['vit_feature_source'])]
            window = getattr(vit, 'window_size', None)
            window = window if window is None or isinstance(window, int) else list(window)
            pairs += [('vit.window_size', window, self.settings['vit'].get('window_size'))]
        return [
            f'{name}={ours!r}, but the release has {theirs!r}'
            for name, ours, theirs in pairs
            if ours != theirs
        ]

    def advice(self, report: LoadReport) -> str:
        """Return what to do where the report of `plan` shows that file and model do not fit."""
        wrong = [*report.missing, *report.mismatched, *report.unexpected]
        heads = [name for name in wrong if name.startswith(_HEADS)]
        if wrong and len(heads) == len(wrong):
            if not self.others:
                return (
                    'The file holds the backbone alone: a test needs the whole model, a training '
                    'takes the file by load_from'
                )
            return (
                f'The backbone fits, the heads do not: {shorten(heads)}; set theirs as in the file'
            )
        return f'The file wants model.backbone={self.settings}'

    def convert(self, expected: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
        """Return the backbone's tensors under our names, fitted to the ViT that takes them.

        Args:
            expected: The state dict of our adapter.

        Returns:
            The tensors, and what was done to them beyond renaming.
        """
        state = {_rename(name): tensor for name, tensor in self.backbone.items()}
        notes: list[str] = []
        if self.is_beit:  # indexes into the tables, which follow from the grid
            state = {k: t for k, t in state.items() if not k.endswith('relative_position_index')}
            return state, notes
        name = f'{_VIT}pos_embed'
        target = expected.get(name)
        if target is None or target.shape != state[name].shape:
            state[name] = state[name][:, 1:]
            notes.append("the cls token's position, which the release never used, dropped")
        wanted = f'{_VIT}blocks.0.ls1.gamma' in expected
        if self.layer_scale and not wanted:
            _fold_layer_scale(state)
            notes.append(
                'LayerScale folded: gamma1 into attn.proj, gamma2 into mlp.fc2 (the same function)'
            )
        elif wanted and not self.layer_scale:
            state |= {
                name: torch.ones(target.shape)
                for name, target in expected.items()
                if re.search(r'\.ls[12]\.gamma$', name)
            }
            notes.append('LayerScale of 1 added, which the release goes without')
        return state, notes

    def plan(
        self, expected: Mapping[str, Tensor], source: str
    ) -> tuple[dict[str, Tensor], LoadReport]:
        """Put the checkpoint under the names of one of our models; nothing is loaded.

        Args:
            expected: The state dict of a model whose `backbone` is an adapter, or of an adapter
                alone.
            source: How to call the file in the report.

        Returns:
            All tensors under our names, heads included where the model is a whole one; and the
            report of the comparison.
        """
        root = 'backbone.' if any(name.startswith('backbone.') for name in expected) else ''
        whole = any(not name.startswith(root) for name in expected)
        own = {k[len(root) :]: t for k, t in expected.items() if k.startswith(root)}
        backbone, notes = self.convert(own)
        state = {f'{root}{name}': tensor for name, tensor in backbone.items()}
        state |= self.others if whole else {}
        report = LoadReport(source, prefix=self.prefix, recognised=str(self), adapted=notes)
        report.is_whole_model = True
        report.outside = 0 if whole else len(self.others)
        compare(state, expected, report)
        return state, report

    def bare_vit(self, expected: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
        """Return the ViT's tensors alone, under timm's names; positions as in the file.

        Args:
            expected: The state dict of a timm ViT.

        Returns:
            As `convert`.
        """
        whole = {f'{_VIT}{name}': tensor for name, tensor in expected.items()}
        if not self.is_beit:
            whole[f'{_VIT}pos_embed'] = self.backbone['pos_embed']
        state, notes = self.convert(whole)
        return {k[len(_VIT) :]: t for k, t in state.items() if k.startswith(_VIT)}, notes


def recognise_released(tensors: Mapping[str, Tensor]) -> Released | None:
    """Recognise a released checkpoint, whole model or backbone; return None for other files.

    Raises:
        ValueError: If it is one of the variants that nothing here can run.
    """
    backbone, prefix = strip_prefix(tensors, COMMON)
    if any(name not in backbone for name in COMMON):
        return None
    if any(name.startswith(_VIT) for name in backbone):
        return None  # a checkpoint of ours
    method = next((method for method, name in _METHODS.items() if name in backbone), None)
    if method is None:
        return None
    _refuse_unsupported(method, backbone)
    inside, parallel = strip_parallel(tensors)
    root = prefix.removeprefix(parallel)
    others = {k: t for k, t in inside.items() if not k.startswith(root)} if root else {}
    return Released(method, prefix, dict(backbone), rename_heads(others))


def _refuse_unsupported(method: str, backbone: Mapping[str, Tensor]) -> None:
    if 'pos_embed' in backbone or BEIT_TABLE in backbone:
        return
    on = 'is on Uni-Perceiver' if _UNI_PERCEIVER in backbone else 'has no positions'
    raise ValueError(
        f'This released {method} {on}: supported are those on plain ViTs (DeiT, AugReg, MAE, '
        'DINOv2) and on BEiT; take one of these'
    )


def _rename(name: str) -> str:
    for pattern, replacement in _RENAMED:
        name = re.sub(pattern, replacement, name)
    return name


def _fold_layer_scale(state: dict[str, Tensor]) -> None:
    """Multiply each gamma into the linear layer whose output it scales, in place."""
    for name in [name for name in state if re.search(r'\.ls[12]\.gamma$', name)]:
        gamma = state.pop(name)
        block, _, rest = name.rpartition('.ls')
        layer = f'{block}.{"attn.proj" if rest.startswith("1") else "mlp.fc2"}'
        state[f'{layer}.weight'] = state[f'{layer}.weight'] * gamma[:, None]
        state[f'{layer}.bias'] = state[f'{layer}.bias'] * gamma
