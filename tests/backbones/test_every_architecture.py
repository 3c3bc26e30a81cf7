"""Every architecture of the known families builds and runs: shapes only, on the meta device."""

import pytest
import timm
import torch

from vit_dense.backbones import TimmViT
from vit_dense.backbones.families import FAMILIES

ARCHITECTURES = [
    name
    for name in timm.list_models()
    if timm.model_entrypoint(name).__module__.rpartition('.')[2] in FAMILIES
]


def test_families_are_found():
    assert len(ARCHITECTURES) > 200


@pytest.mark.slow
@pytest.mark.parametrize('name', ARCHITECTURES)
def test_architecture(name):
    """A rectangular image that the patch does not divide, through the first two blocks."""
    with torch.device('meta'):
        vit = TimmViT(name)
        height, width = 2 * vit.patch_size + 3, 3 * vit.patch_size
        tokens, context = vit.embed(torch.zeros(1, vit.in_chans, height, width))
        x = vit.to_map(vit.run_blocks(tokens, context, 0, 2), context)
    assert x.shape == (1, vit.embed_dim, 3, 3)
    assert vit.layer_groups().keys() == dict(vit.named_parameters()).keys()
