"""Segmentation starts without mmdet; mmseg's two heads that need it are imported on demand."""

import subprocess
import sys

import pytest

SCRIPT = """
import sys
import vit_dense.segmentation
import mmseg.models
from mmengine.registry import MODELS
from mmseg.registry import MODELS as SEG_MODELS

assert SEG_MODELS.get('UPerHead') and 'mmdet' not in sys.modules
assert not hasattr(mmseg.models, 'NoSuchHead') and 'mmdet' not in sys.modules
WAY
from mmdet.models.dense_heads import Mask2FormerHead
assert issubclass(head, Mask2FormerHead)
assert head is mmseg.models.Mask2FormerHead is SEG_MODELS.get('Mask2FormerHead')
from mmseg.models.decode_heads import mask2former_head
assert mask2former_head.Mask2FormerHead is head
assert MODELS.get('mmseg.MaskFormerHead') is mmseg.models.decode_heads.MaskFormerHead
"""
# What a config, a user's module or another package of this project does.
WAYS = {
    'registry': "head = SEG_MODELS.get('Mask2FormerHead')",
    'root registry': "head = MODELS.get('mmseg.Mask2FormerHead')",
    'import': 'from mmseg.models import Mask2FormerHead as head',
    'module': 'from mmseg.models.decode_heads.mask2former_head import Mask2FormerHead as head',
    'after detection': ("import vit_dense.detection\nhead = MODELS.get('mmseg.Mask2FormerHead')"),
}


@pytest.mark.parametrize(
    'way',
    [
        pytest.param(way, marks=() if way == 'registry' else pytest.mark.slow, id=way)
        for way in WAYS
    ],
)
def test_heads_are_whole_when_asked_for(way: str) -> None:
    script = SCRIPT.replace('WAY', WAYS[way])
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', script], text=True, capture_output=True
    )
    assert done.returncode == 0, done.stderr
