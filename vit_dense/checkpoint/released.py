"""Released ViT-Adapter and ViT-CoMer checkpoints under our names.

A release writes the ViT's parts at the root of the backbone, where we keep them under
`vit.model.`; heads of mmseg 0.x and mmdet 2.x (UPerNet, FPN, Mask R-CNN, ...) have the names that
mmseg 1.x and mmdet 3.x give them. The position of a cls token is in every file and in no forward:
it is dropped. LayerScale is `gamma1`, `gamma2` there; a ViT without has it multiplied into the
linear layer before it, which is the same function.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from .diagnose import SIZES, depth_of
from .report import LoadReport

__all__ = ['Released', 'plan_released', 'recognise_released']

NO_CLS_TOKEN = (
    'the released networks have no cls token: set '
    "vit.model_kwargs=dict(class_token=False, global_pool='avg')"
)
_VIT = 'vit.model.'
_WRAPPERS = ('module.', '')
_ROOTS = ('backbone.', '')
# What distinguishes the two, and tells both from a checkpoint of ours.
_METHODS = {
    'ViTAdapter': 'interactions.0.injector.query_norm.weight',
    'ViTCoMer': 'interactions.0.mrfp.fc1.weight',
}
_COMMON = ('patch_embed.proj.weight', 'pos_embed', 'level_embed', 'spm.stem.0.weight')
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
_TASKS = {
    'segmentation': ('decode_head.',),
    'detection': ('rpn_head.', 'roi_head.', 'bbox_head.'),
}
_POINTS = 4  # sampling points per head and level; no shape tells them from the heads
_LEVELS = {'ViTAdapter': 1, 'ViTCoMer': 3}  # of the attention that `_attention` names
_DEIT_GRID = 14
_FFN_RATIO = 0.25  # in all published configs, and our default
_HEAD_DIM = 64  # of all published ViTs; no shape shows it


@dataclass(frozen=True)
class Released:
    """A released checkpoint, recognised by its names.

    Attributes:
        method: Our type of that name, 'ViTAdapter' or 'ViTCoMer'.
        prefix: What stood before the backbone's names, such as 'backbone.'.
        backbone: Its tensors, as the release names them.
        others: All other tensors (neck, heads), as the release names them.
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
        return 'blocks.0.gamma1' in self.backbone

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The backbone's config, as far as shapes and names tell it."""
        width, grid = self._size('level_embed', 1), self._grid
        kwargs: dict[str, Any] = {'class_token': False, 'global_pool': 'avg'}
        kwargs |= {'init_values': 1.0} if self.layer_scale else {}
        kwargs |= {'img_size': 16 * grid} if grid != _DEIT_GRID else {}
        vit: dict[str, Any] = {
            'type': 'TimmViT',
            'model_name': f'vit_{SIZES.get(width, "base")}_patch16_224',
            'as_released': True,
            'model_kwargs': kwargs,
        }
        if width not in SIZES:
            kwargs |= {'embed_dim': width, 'depth': depth_of(self.backbone)}
            kwargs |= {'num_heads': max(1, width // _HEAD_DIM)}
        settings = {
            'type': self.method,
            'deform_num_heads': self._attention('attention_weights')
            // (_POINTS * _LEVELS[self.method]),
            'deform_ratio': self._attention('value_proj') / width,
            'conv_inplane': self._size('spm.stem.0.weight'),
        }
        if self.method == 'ViTCoMer':
            settings['mrfp_ratio'] = self._size('interactions.0.mrfp.fc1.weight') / width
        hidden = f'{self._first}.ffn.fc1.weight'
        if hidden in self.backbone and self._size(hidden) != int(width * _FFN_RATIO):
            settings['cffn_ratio'] = self._size(hidden) / width
        if self.task is not None:
            settings['vit_feature_source'] = 'stages' if self.task == 'segmentation' else 'last'
        if self.task == 'detection':
            vit['window_size'] = 14
        return settings | {'vit': vit}

    def __str__(self) -> str:
        width, depth = self._size('level_embed', 1), depth_of(self.backbone)
        what = f'{self.task} model' if self.task else 'backbone'
        scale = 'with' if self.layer_scale else 'without'
        return (
            f'released {self.method}, {what} ({SIZES.get(width, "unknown size")}: width {width}, '
            f'depth {depth}, positions {self._grid}x{self._grid}, {scale} LayerScale)'
        )

    def differences(self, model: Any) -> list[str]:
        """What no shape shows: settings of a model that make it another function than this one.

        Args:
            model: Ours, a whole one or an adapter.

        Returns:
            One text for each, with the value to set.
        """
        adapter = getattr(model, 'backbone', model)
        vit = getattr(adapter, 'vit', None)
        wanted = {k: v for k, v in self.settings.items() if k == 'vit_feature_source'}
        pairs = [(adapter, name, value) for name, value in wanted.items()]
        pairs += [(vit, 'as_released', True)]
        pairs += [(vit, 'window_size', self.settings['vit'].get('window_size'))] if wanted else []
        return [
            f'{name}={getattr(owner, name, None)!r}, but the release has {value!r}'
            for owner, name, value in pairs
            if getattr(owner, name, None) != value
        ]

    def convert(self, expected: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
        """The backbone's tensors under our names, fitted to the ViT that awaits them.

        Args:
            expected: The state dict of our adapter.

        Returns:
            The tensors, and what was done to them beyond renaming.
        """
        state = {_rename(name): tensor for name, tensor in self.backbone.items()}
        notes = []
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

    def bare_vit(self, expected: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
        """The ViT's tensors alone, under timm's names; positions as in the file.

        Args:
            expected: The state dict of a timm ViT.

        Returns:
            As `convert`.
        """
        whole = {f'{_VIT}{name}': tensor for name, tensor in expected.items()}
        whole[f'{_VIT}pos_embed'] = self.backbone['pos_embed']
        state, notes = self.convert(whole)
        return {k[len(_VIT) :]: t for k, t in state.items() if k.startswith(_VIT)}, notes

    @property
    def _grid(self) -> int:
        return round((self._size('pos_embed', 1) - 1) ** 0.5)

    def _size(self, name: str, axis: int = 0) -> int:
        return int(self.backbone[name].shape[axis])

    @property
    def _first(self) -> str:
        """The first part that has a deformable attention of its own and an FFN."""
        return f'interactions.0.{"extractor" if self.method == "ViTAdapter" else "cti_tov"}'

    def _attention(self, part: str) -> int:
        """Rows of a layer of the first deformable attention."""
        return self._size(f'{self._first}.attn.{part}.weight')


def recognise_released(tensors: Mapping[str, Tensor]) -> Released | None:
    """What released checkpoint a state dict is, whole model or backbone; None for other files."""
    for prefix in (wrapper + root for wrapper in _WRAPPERS for root in _ROOTS):
        if any(f'{prefix}{name}' not in tensors for name in _COMMON):
            continue
        method = next((m for m, name in _METHODS.items() if f'{prefix}{name}' in tensors), None)
        if method is None:
            continue
        wrapper = 'module.' if prefix.startswith('module.') else ''
        backbone = {k[len(prefix) :]: t for k, t in tensors.items() if k.startswith(prefix)}
        others = {
            k.removeprefix(wrapper): t for k, t in tensors.items() if not k.startswith(prefix)
        }
        return Released(method, prefix, backbone, others)
    return None


def plan_released(
    released: Released, expected: Mapping[str, Tensor], source: str
) -> tuple[dict[str, Tensor], LoadReport]:
    """A released checkpoint under the names of one of our models.

    Args:
        released: From `recognise_released`.
        expected: The state dict of a model whose `backbone` is an adapter, or of an adapter alone.
        source: How to call the file in the report.

    Returns:
        All tensors under our names, heads included where the model is a whole one; and what
        loading them will do. Nothing is loaded here.
    """
    root = 'backbone.' if any(name.startswith('backbone.') for name in expected) else ''
    own = {k[len(root) :]: t for k, t in expected.items() if k.startswith(root)}
    backbone, notes = released.convert(own)
    state = {f'{root}{name}': tensor for name, tensor in backbone.items()}
    if root:
        state |= released.others
    report = LoadReport(source, prefix=released.prefix, recognised=str(released), adapted=notes)
    report.outside = 0 if root else len(released.others)
    for name, tensor in state.items():
        target = expected.get(name)
        if target is None:
            report.unexpected.append(name)
        elif target.shape == tensor.shape:
            report.loaded.append(name)
        else:
            report.mismatched[name] = (tuple(tensor.shape), tuple(target.shape))
    report.missing = [name for name in expected if name not in state]
    total = sum(t.numel() for t in expected.values())
    report.matched = sum(expected[name].numel() for name in report.loaded) / max(1, total)
    return state, report


def _rename(name: str) -> str:
    for pattern, replacement in _RENAMED:
        name = re.sub(pattern, replacement, name)
    return name


def _fold_layer_scale(state: dict[str, Tensor]) -> None:
    """Multiplies each gamma into the linear layer whose output it scales, in place."""
    for name in [name for name in state if re.search(r'\.ls[12]\.gamma$', name)]:
        gamma = state.pop(name)
        block, _, rest = name.rpartition('.ls')
        layer = f'{block}.{"attn.proj" if rest.startswith("1") else "mlp.fc2"}'
        state[f'{layer}.weight'] = state[f'{layer}.weight'] * gamma[:, None]
        state[f'{layer}.bias'] = state[f'{layer}.bias'] * gamma
