"""The backbones that the speed benchmark compares, and the options that select them."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from itertools import product

import timm
from torch import Tensor, nn

from vit_dense.adapters import SimpleFeaturePyramid, ViTAdapter, ViTCoMer
from vit_dense.backbones import TimmViT

ADAPTERS = ('SimpleFeaturePyramid', 'ViTAdapter', 'ViTCoMer')
# heads and value ratio of the deformable attention, as released
DEFORM = {192: (6, 1.0), 384: (6, 1.0), 768: (12, 0.5), 1024: (16, 0.5)}
# hidden width of ViT-CoMer's MRFP over the ViT's, as released for segmentation
MRFP = {192: 6.0, 384: 1.5}


class Plain(nn.Module):
    """The forward of timm up to its last block."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.model = timm.create_model(name, num_classes=0, dynamic_img_size=True)
        self.model.norm = self.model.fc_norm = nn.Identity()

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return (self.model.forward_features(image),)


@dataclass(frozen=True)
class Variant:
    """A backbone to measure; the adapter 'plain' is timm's ViT alone.

    `inject` is of ViTAdapter: False leaves its injectors out.
    """

    model: str
    adapter: str
    window_size: int | None = None
    all_windowed: bool = False
    checkpointing: bool = False
    frozen: bool = False
    inject: bool = True

    @property
    def attention(self) -> str:
        """Describe the attention of the blocks."""
        if self.window_size is None:
            return 'global'
        return f'windows of {self.window_size}' + (' in all blocks' if self.all_windowed else '')

    def build(self) -> nn.Module:
        """Build the module, with random weights."""
        if self.adapter == 'plain':
            return Plain(self.model)
        vit = TimmViT(
            self.model,
            window_size=self.window_size,
            global_blocks=[] if self.all_windowed else None,
            grad_checkpointing=self.checkpointing,
        ).requires_grad_(not self.frozen)
        if self.adapter == 'SimpleFeaturePyramid':
            return SimpleFeaturePyramid(vit)
        heads, ratio = DEFORM.get(vit.embed_dim, (vit.model.blocks[0].attn.num_heads, 1.0))
        if self.adapter == 'ViTCoMer':
            mrfp = MRFP.get(vit.embed_dim, 1.0)
            return ViTCoMer(vit, deform_num_heads=heads, deform_ratio=ratio, mrfp_ratio=mrfp)
        return ViTAdapter(vit, deform_num_heads=heads, deform_ratio=ratio, inject=self.inject)


def variants(model: str, args: argparse.Namespace) -> list[Variant]:
    """Return the variants that the options select, adapter by adapter."""
    asked = product(args.adapters, args.window_size, args.global_blocks, args.grad_checkpointing)
    found = [
        Variant(model, adapter, window, window is not None and blocks == 'none', recompute == 'on')
        for adapter, window, blocks, recompute in asked
    ]
    return list(dict.fromkeys(found))  # without windows, global_blocks makes no difference


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that `variants` reads; those without a default depend on the table."""
    parser.add_argument('--adapters', nargs='+', default=list(ADAPTERS), choices=ADAPTERS)
    parser.add_argument(
        '--window-size',
        nargs='+',
        type=lambda text: None if text == 'none' else int(text),
        help="edges of the attention windows in the adapters' ViT, in tokens, or none",
    )
    parser.add_argument(
        '--global-blocks',
        nargs='+',
        default=['four'],
        choices=['four', 'none'],
        help='blocks with global attention where the others have windows',
    )
    parser.add_argument(
        '--grad-checkpointing',
        nargs='+',
        choices=['off', 'on'],
        help='recompute activations in the backward pass of the adapters',
    )
