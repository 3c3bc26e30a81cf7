"""Layer-wise learning-rate decay for any timm ViT inside any model.

In fine-tuning, the learning rate of a layer of a pretrained ViT is smaller the closer it is to the
input (BEiT, appendix; ELECTRA). mmseg's constructor supports three networks by class name; this one
gets the layers from the backbone (`LayeredModule`), and `TimmViT` from timm's `group_matcher`.
"""

import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

__all__ = ['LayerDecayOptimWrapperConstructor', 'LayeredModule']

_OPTIONS = (
    'layer_decay_rate',
    'norm_decay_mult',
    'bias_decay_mult',
    'flat_decay_mult',
    'custom_keys',
)
_HINTS = {
    'decay_rate': 'mmseg calls it decay_rate, here it is layer_decay_rate',
    'num_layers': 'layers are counted here, leave num_layers out',
    'decay_type': 'there is only one type, leave decay_type out',
}
# Embeddings are exempt from weight decay, which would shift all tokens alike, and so are parameters
# that timm's `no_weight_decay()` names.
_EMBEDDINGS = re.compile(
    r'(?:^|[._])(?:pos_embed|cls_token|reg_token|dist_token|mask_token|level_embed'
    r'|relative_position_bias_table|rel_pos_[hw])$'
)
_BLOCK = re.compile(r'(?:^|\.)blocks\.(\d+)\.')
_NORMS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.modules.batchnorm._NormBase)


@runtime_checkable
class LayeredModule(Protocol):
    """A backbone that assigns its parameters to layers."""

    def layer_groups(self) -> dict[str, int]:
        """Map each parameter name to its layer: 0 for embeddings, i + 1 for block i."""
        ...


@dataclass(frozen=True)
class _Place:
    """The layer of a parameter: label for the table, and distance to the layers at full rate."""

    label: str
    distance: int


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Build an optimizer whose learning rate decreases towards the ViT's input.

    With `depth` blocks there are `depth + 2` layers: embeddings are layer 0, block i is layer
    i + 1, and everything else (final norm, adapter, heads) is layer `depth + 1`, at full rate:
    `lr = base_lr * layer_decay_rate ** (depth + 1 - layer)`, as in the published ViT-Adapter
    recipes.

    Exempt from weight decay are biases, parameters of norm layers, other one-dimensional ones
    (LayerScale, an injector's gamma), position embeddings, class / register / distillation / mask
    tokens, level embeddings, relative position tables, and what a module's `no_weight_decay()`
    names (timm's convention).

    Frozen parameters are left out and shared ones appear once. Each group records its factor as
    `lr_scale`; its `lr` already includes it, so mmengine's schedulers need no change. Parameters
    of equal factor and decay share a group; the full-rate group is first, so that mmengine logs it
    as `lr`.

        optim_wrapper = dict(
            type='OptimWrapper',
            constructor='LayerDecayOptimWrapperConstructor',
            optimizer=dict(type='AdamW', lr=6e-5, weight_decay=0.01),
            paramwise_cfg=dict(layer_decay_rate=0.95),
        )

    Args:
        optim_wrapper_cfg: As for mmengine; the optimizer needs `lr` and `weight_decay`.
        paramwise_cfg: `layer_decay_rate` in (0, 1], required. Optional: `norm_decay_mult`,
            `bias_decay_mult`, `flat_decay_mult` (factors on weight decay, 0 by default), and
            `custom_keys`: part of a name -> `dict(lr_mult=..., decay_mult=...)`, where the
            longest matching key wins. `lr_mult` multiplies the layer's rate; `decay_mult`, where
            given, replaces the rules above.

    Raises:
        ValueError: An option is unknown or invalid, `lr` or `weight_decay` is missing, the model
            has no ViT, or a parameter of the ViT belongs to no layer.
    """

    def _validate_cfg(self) -> None:
        unknown = sorted(set(self.paramwise_cfg) - set(_OPTIONS))
        if unknown:
            hints = [_HINTS[key] for key in unknown if key in _HINTS]
            raise ValueError(
                f'paramwise_cfg has unknown options {unknown}; allowed are {list(_OPTIONS)}'
                + ''.join(f'; {hint}' for hint in hints)
            )
        rate = self.paramwise_cfg.get('layer_decay_rate')
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate <= 1:
            raise ValueError(
                f'paramwise_cfg.layer_decay_rate={rate!r} must be a number in (0, 1]; 1 switches '
                'the decay off, published values are between 0.65 and 0.95'
            )
        for key, value in (('lr', self.base_lr), ('weight_decay', self.base_wd)):
            if value is None:
                raise ValueError(f'optimizer has no {key!r}; layer decay needs it to be stated')
        for key, options in self.paramwise_cfg.get('custom_keys', {}).items():
            if not isinstance(options, Mapping) or not set(options) <= {'lr_mult', 'decay_mult'}:
                raise ValueError(
                    f'custom_keys[{key!r}]={options!r}; allowed is a dict of lr_mult, decay_mult'
                )

    def add_params(self, params: list[dict[str, Any]], module: nn.Module, **_: Any) -> None:
        """Append the parameter groups of `module` to `params` and log them as a table."""
        places = _find_places(module)
        holders = {path.split('.')[0] for path, _, _ in _layered(module)}
        kinds = dict(_decay_kinds(module))
        rows: dict[tuple[str, float], list[tuple[nn.Parameter, float]]] = {}
        groups: dict[tuple[float, float], dict[str, Any]] = {}
        used_keys: set[str] = set()
        frozen = 0
        for raw_name, parameter in module.named_parameters():
            name = _without_wrappers(raw_name)
            key = self._custom_key(name)
            used_keys |= {key} if key else set()
            if not parameter.requires_grad:
                frozen += 1
                continue
            place = places.get(id(parameter), _Place(_part_label(name, holders), 0))
            scale, decay = self._factors(place, kinds[id(parameter)], key)
            group = groups.setdefault(
                (scale, decay),
                {
                    'params': [],
                    'lr': self.base_lr * scale,
                    'weight_decay': decay,
                    'lr_scale': scale,
                },
            )
            group['params'].append(parameter)
            rows.setdefault((place.label, scale), []).append((parameter, decay))
        params.extend(groups[key] for key in sorted(groups, reverse=True))
        self._log(rows, frozen, len(groups))
        self._warn_of_unused(used_keys)

    def _custom_key(self, name: str) -> str | None:
        """Return the longest custom key that is part of the name, or None."""
        matching = [key for key in self.paramwise_cfg.get('custom_keys', {}) if key in name]
        return min(matching, key=lambda key: (-len(key), key), default=None)

    def _factors(self, place: _Place, kind: str, key: str | None) -> tuple[float, float]:
        """Return the factor on the base rate, and the weight decay."""
        custom = self.paramwise_cfg['custom_keys'][key] if key else {}
        scale = self.paramwise_cfg['layer_decay_rate'] ** place.distance * custom.get('lr_mult', 1)
        if 'decay_mult' in custom:
            factor = custom['decay_mult']
        elif kind == 'embedding':
            factor = 0.0
        elif kind == 'weight':
            factor = 1.0
        else:
            factor = self.paramwise_cfg.get(f'{kind}_decay_mult', 0.0)
        return float(scale), float(self.base_wd * factor)

    def _log(
        self,
        rows: dict[tuple[str, float], list[tuple[nn.Parameter, float]]],
        frozen: int,
        num_groups: int,
    ) -> None:
        head = f'{"layer":<28} {"lr scale":>9} {"lr":>10} {"weight decay":>13} {"tensors":>8}'
        print_log(
            f'Layer decay {self.paramwise_cfg["layer_decay_rate"]}: {num_groups} parameter groups, '
            f'{frozen} frozen tensors left out; the log file has the rates of all layers (the '
            'second weight decay is of biases, norms, embeddings)',
            logger='current',
        )
        lines = [f'{head} {"parameters":>11}']  # which compat.console leaves to the file
        # From the input to the output; equal rates keep the model's order.
        for (label, scale), members in sorted(rows.items(), key=lambda row: row[0][1]):
            decays = ' / '.join(f'{wd:g}' for wd in sorted({wd for _, wd in members}, reverse=True))
            count = sum(parameter.numel() for parameter, _ in members)
            lines.append(
                f'{label:<28} {scale:>9.4f} {self.base_lr * scale:>10.3g} {decays:>13} '
                f'{len(members):>8} {count:>11,}'
            )
        print_log('\n'.join(lines), logger='current')

    def _warn_of_unused(self, used: set[str]) -> None:
        unused = sorted(set(self.paramwise_cfg.get('custom_keys', {})) - used)
        if unused:
            print_log(
                f'paramwise_cfg.custom_keys {unused} match no parameter of the model',
                logger='current',
                level=logging.WARNING,
            )


def _without_wrappers(name: str) -> str:
    """Return the parameter name of the plain model, without DDP's `module.`."""
    return '.'.join(part for part in name.split('.') if part != 'module')


def _find_places(model: nn.Module) -> dict[int, _Place]:
    """Return the layer of each parameter of every ViT in the model, by its `id`."""
    found = list(_layered(model))
    if not found:
        raise ValueError(
            f'no ViT found in {type(model).__name__}: none of its modules has layer_groups(), as '
            'TimmViT has it; give the network such a backbone, or leave out constructor='
        )
    places: dict[int, _Place] = {}
    for path, vit, groups in found:
        names = dict(vit.named_parameters(remove_duplicate=False))
        unmatched = sorted(set(names) - set(groups))
        if unmatched:
            raise ValueError(
                f'{len(unmatched)} parameters of {type(vit).__name__} at {path!r} belong to no '
                f'layer: {unmatched[:5]}; name them in its layer_groups() (0 embeddings, i + 1 '
                'block i, depth + 1 full rate)'
            )
        top = _depth(vit, groups) + 1
        prefix = f'{path} ' if len(found) > 1 else ''
        for name, parameter in names.items():
            layer = groups[name]
            if not 0 <= layer <= top:
                raise ValueError(
                    f'layer {layer} of {name!r} in {type(vit).__name__} lies outside 0..{top}'
                )
            places.setdefault(id(parameter), _Place(prefix + _label(layer, top), top - layer))
    return places


def _layered(model: nn.Module) -> Iterator[tuple[str, nn.Module, dict[str, int]]]:
    """Yield path, module and layers of the outermost modules that assign layers."""
    inside: tuple[str, ...] = ()
    for path, module in model.named_modules():
        groups = module.layer_groups() if isinstance(module, LayeredModule) else None
        if groups is not None and not (inside and path.startswith(inside)):
            yield path, module, groups
            inside += (f'{path}.' if path else '',)


def _depth(vit: nn.Module, groups: dict[str, int]) -> int:
    """Return the number of blocks: `vit.depth`, or from the names of its parameters."""
    stated = getattr(vit, 'depth', None)
    if isinstance(stated, int):
        return stated
    blocks = [int(match[1]) for name in groups if (match := _BLOCK.search(name))]
    return max(blocks) + 1 if blocks else max(groups.values(), default=0)


def _label(layer: int, top: int) -> str:
    if layer == 0:
        return 'embeddings'
    return 'final norm' if layer == top else f'block {layer - 1}'


def _part_label(name: str, holders: set[str]) -> str:
    """Return the part of the model that a parameter outside every ViT belongs to."""
    part = name.split('.')[0]
    return f'{part} around the ViT' if part in holders else part


def _decay_kinds(model: nn.Module) -> Iterator[tuple[int, str]]:
    """Yield the `id` of each parameter and its kind.

    Kinds are 'weight', 'bias', 'norm', 'flat' (one-dimensional) and 'embedding'.
    """
    exempt: set[int] = set()
    for module in model.modules():
        names = getattr(module, 'no_weight_decay', None)
        if callable(names):
            listed = names()
            exempt |= {id(p) for name, p in module.named_parameters() if name in listed}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if id(parameter) in exempt or _EMBEDDINGS.search(name):
                kind = 'embedding'
            elif isinstance(module, _NORMS):
                kind = 'norm'
            elif name == 'bias' or name.endswith('_bias'):
                kind = 'bias'
            else:
                kind = 'flat' if parameter.ndim <= 1 else 'weight'
            yield id(parameter), kind
