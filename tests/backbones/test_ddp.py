"""DDP finds no unused parameter, however much of the ViT rests.

It complains at the second step; a process group of one process is enough to see it.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from mmengine.registry import MODELS
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

import vit_dense  # noqa: F401 - registers

ADAPTERS: dict[str, dict[str, Any]] = {
    'SimpleFeaturePyramid': {'out_channels': 8},
    'ViTAdapter': {'deform_num_heads': 4, 'conv_inplane': 8},
    'ViTCoMer': {'deform_num_heads': 4, 'conv_inplane': 8},
    'PlainViT': {'num_maps': 2},
}


@pytest.fixture(scope='module', autouse=True)
def _process_group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    store = tmp_path_factory.mktemp('store') / 'file'
    distributed.init_process_group('gloo', init_method=f'file://{store}', rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


class Whole(nn.Module):
    """A backbone and the sum of all it gives, with a parameter that is always used."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.scale * sum(x.square().mean() for x in self.backbone(image))


def two_steps(backbone: nn.Module) -> None:
    model = DistributedDataParallel(Whole(backbone).train())
    for _ in range(2):
        model(torch.randn(1, 3, 64, 64)).backward()


@pytest.mark.parametrize('adapter', ADAPTERS)
@pytest.mark.parametrize('frozen_stages', [-1, 0, 2, 6])
def test_frozen_blocks(adapter: str, frozen_stages: int) -> None:
    vit = {'type': 'TimmViT', 'model_name': 'test_vit', 'frozen_stages': frozen_stages}
    two_steps(MODELS.build({'type': adapter, 'vit': vit, **ADAPTERS[adapter]}))


@pytest.mark.parametrize('adapter', ADAPTERS)
@pytest.mark.parametrize('frozen_stages', [0, 2])
def test_lora(adapter: str, frozen_stages: int) -> None:
    pytest.importorskip('peft', reason='the extra [peft] is not installed')
    vit = {'type': 'LoRATimmViT', 'model_name': 'test_vit', 'frozen_stages': frozen_stages}
    two_steps(MODELS.build({'type': adapter, 'vit': vit, **ADAPTERS[adapter]}))


def test_an_unused_parameter_would_be_seen() -> None:
    vit = {'type': 'TimmViT', 'model_name': 'test_vit'}
    backbone = MODELS.build({'type': 'PlainViT', 'vit': vit, **ADAPTERS['PlainViT']})
    backbone.idle = nn.Parameter(torch.zeros(3))
    with pytest.raises(RuntimeError, match='Expected to have finished reduction'):
        two_steps(backbone)
