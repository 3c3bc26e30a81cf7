"""LoRATimmViT: a TimmViT in which only low-rank updates of the linear layers are trained.

Source: LoRA (Hu et al. 2022): a layer computes `W x + (alpha / rank) B A x`, W is frozen; A
and B are trained. B starts at zero, so that the first forward is the pretrained ViT's. After
training, the product is added to W (`merge_lora`, `tools/merge_lora.py`) at no further cost.

The layers come from `peft`, an optional dependency: it is the maintained implementation, and other
projects know its parameter names and its merging.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from mmengine.registry import MODELS
from torch import nn

from .timm_vit import TimmViT


@MODELS.register_module()
class LoRATimmViT(TimmViT):
    """Drop-in replacement of `TimmViT`: `vit=dict(type='LoRATimmViT', model_name=..., rank=8)`."""

    def __init__(
        self,
        model_name: str,
        *,
        rank: int = 8,
        alpha: float = 16.0,
        dropout: float = 0.0,
        targets: Sequence[str] | None = None,
        frozen_stages: int = 0,
        **vit: Any,
    ) -> None:
        """Build the ViT and its corrections.

        Args:
            model_name: Name of a timm model.
            rank: Columns of B and rows of A.
            alpha: The update is scaled by alpha / rank.
            dropout: Dropout rate of the inputs of the update in training.
            targets: Linear layers of the blocks to update, by the ends of their names, such as
                ['qkv', 'attn.proj']; all by default.
            frozen_stages: Number of blocks without an update, counted from the input.
            vit: Further arguments of `TimmViT`.

        Raises:
            ImportError: If `peft` is not installed.
            ValueError: If an argument is out of range, if the blocks do not have a target, or if
                timm's block does not call it as a module, where an update has no effect.
        """
        super().__init__(model_name, frozen_stages=frozen_stages, **vit)
        if rank < 1 or alpha <= 0 or not 0 <= dropout < 1:
            raise ValueError(
                f'rank={rank}, alpha={alpha}, dropout={dropout}: give a rank >= 1, an alpha > 0 '
                'and a dropout in [0, 1)'
            )
        if not 0 <= frozen_stages < self.depth:
            raise ValueError(
                f'frozen_stages={frozen_stages}: with LoRA, embeddings are always frozen, and 0 to '
                f'{self.depth - 1} blocks of {model_name!r} can be; to freeze all of it use '
                f"type='TimmViT', frozen_stages={self.depth}"
            )
        names = self._find_targets(targets)
        peft = _import_peft()
        config = peft.LoraConfig(
            r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=names
        )
        peft.inject_adapter_in_model(config, self.model)
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_('.lora_' in name)
        self.train(self.training)

    def _find_targets(self, targets: Sequence[str] | None) -> list[str]:
        """Return the full names of the linear layers to update."""
        start = self.frozen_stages
        known = [
            (f'blocks.{index}.{name}', module)
            for index in range(start, self.depth)
            for name, module in self.model.blocks[index].named_modules()
            if isinstance(module, nn.Linear)
        ]
        ends = sorted({name.split('.', 2)[2] for name, _ in known})
        wanted = ends if targets is None else list(targets)
        unknown = [one for one in wanted if not any(_ends(name, one) for name in ends)]
        if unknown or not wanted:
            raise ValueError(
                f'targets={targets}: the linear layers in the blocks of {self.model_name!r} are '
                f'{ends}; name some of them, or leave targets out for all'
            )
        chosen = [name for name, _ in known if any(_ends(name, one) for one in wanted)]
        called = self._called_layers(start)
        if bypassed := sorted({name.split('.', 2)[2] for name in chosen if name not in called}):
            usable = [name for name in ends if name not in bypassed]
            raise ValueError(
                f'{self.model_name!r} uses the weights of {bypassed} without calling the layer, '
                f'where an update would have no effect: set targets={usable}'
            )
        return chosen

    def _called_layers(self, start: int) -> set[str]:
        """Return the full names of the linear layers that the blocks call, by running them once."""
        called: set[str] = set()
        handles = [
            module.register_forward_hook(lambda *_, name=f'blocks.{name}': called.add(name))
            for name, module in self.model.blocks.named_modules()
            if isinstance(module, nn.Linear)
        ]
        like = next(self.model.parameters())
        edge = 2 * self.patch_size
        with torch.no_grad():
            tokens, context = self.embed(like.new_zeros(1, self.in_chans, edge, edge))
            self.run_blocks(tokens, context, start, self.depth)
        for handle in handles:
            handle.remove()
        return called

    def _updated_layers(self) -> Iterator[tuple[nn.Module, str, Any]]:
        """Iterate over parent, attribute name and layer of every update."""
        layers = [
            (name, module)
            for name, module in self.model.named_modules()
            if hasattr(module, 'lora_A') and hasattr(module, 'base_layer')
        ]
        for name, module in layers:
            parent, _, attribute = name.rpartition('.')
            yield self.model.get_submodule(parent), attribute, module

    def init_weights(self) -> None:
        """Load the ViT's weights into the original layers."""
        updated = list(self._updated_layers())
        for parent, attribute, layer in updated:
            setattr(parent, attribute, layer.base_layer)
        try:
            super().init_weights()
        finally:
            for parent, attribute, layer in updated:
                setattr(parent, attribute, layer)

    def merge_lora(self) -> int:
        """Add the updates to the weights; the parameter names become those of a plain `TimmViT`.

        Returns:
            The number of updated layers.

        Raises:
            ValueError: If a weight would not be finite.
        """
        updated = list(self._updated_layers())
        for parent, attribute, layer in updated:
            layer.merge(safe_merge=True)
            setattr(parent, attribute, layer.base_layer)
        return len(updated)


def _ends(name: str, end: str) -> bool:
    return name == end or name.endswith(f'.{end}')


def _import_peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise ImportError(
            'LoRATimmViT needs the package peft (or one that peft needs): '
            'run pip install "vit_dense[peft]"'
        ) from error
    return peft
