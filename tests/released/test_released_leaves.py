"""The leaves for released files: their backbones hold what the files do, in number and shape."""

from pathlib import Path

import pytest
import torch
from leaves import LEAVES, detects
from mmengine.config import Config
from mmengine.registry import MODELS

RELEASED = [path for path in LEAVES if path.parent.name == 'released']
# Of the published files: tensors of the backbone, width, edge of the position grid. The first is
# counted for those whose files were described to us.
FACTS: dict[str, tuple[int | None, int, int]] = {
    'vit-adapter-t-deit_mask-rcnn': (410, 192, 14),
    'vit-adapter-t-deit_upernet': (410, 192, 14),
    'vit-adapter-s-deit_upernet': (410, 384, 14),
    'vit-adapter-b-deit_upernet': (410, 768, 14),
    'vit-adapter-b-deit-light_upernet': (None, 768, 14),
    'vit-adapter-l-beit_upernet': (None, 1024, 40),
    'vit-adapter-l-beit_mask2former': (None, 1024, 40),
    'vit-comer-t-deit_upernet': (670, 192, 14),
    'vit-comer-s-deit_upernet': (670, 384, 14),
    'vit-comer-b-deit_upernet': (670, 768, 14),
    'vit-comer-s-dinov2_mask-rcnn': (670, 384, 37),
}


@pytest.mark.parametrize('path', RELEASED, ids=lambda path: path.stem)
def test_the_backbone_is_the_release_s(path: Path) -> None:
    tensors, width, grid = FACTS['_'.join(path.stem.split('_')[:2])]
    config = Config.fromfile(path)
    with torch.device('meta'):
        backbone = MODELS.build(config.model.backbone)
    if tensors is not None:
        assert len(backbone.state_dict()) == tensors
    assert backbone.level_embed.shape == (3, width)
    vit = backbone.vit.model
    assert tuple(vit.patch_embed.grid_size) == (grid, grid)
    assert vit.patch_embed.proj.kernel_size == (16, 16)
    beit = 'beit' in path.stem
    assert type(backbone.vit).__name__ == ('TimmViT' if beit else 'ReleasedTimmViT')
    assert bool(backbone.vit.num_prefix_tokens) == beit
    source = 'last' if detects(path) else 'none' if 'light' in path.stem else 'stages'
    assert backbone.vit_feature_source == source
    assert not backbone.vit.pretrained, 'nothing is downloaded to test a file'
    assert backbone.vit.window_size == (14 if detects(path) else None)


def test_every_leaf_is_known() -> None:
    assert {'_'.join(path.stem.split('_')[:2]) for path in RELEASED} == FACTS.keys()
