"""DDP finds no unused parameter, however much of the ViT is frozen, and averages gradients.

It complains of unused parameters at the second step; a group of one process is enough to see it.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.registry import MODELS
from torch import distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

import vit_dense  # noqa: F401 - registers

ADAPTERS: dict[str, dict[str, Any]] = {
    'SimpleFeaturePyramid': {'out_channels': 8},
    'ViTAdapter': {'deform_num_heads': 4, 'conv_inplane': 8},
    'ViTCoMer': {'deform_num_heads': 4, 'conv_inplane': 8},
    'PlainViT': {'num_maps': 2},
}


pytestmark = pytest.mark.usefixtures('process_group')


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


# Without statistics over the batch, which the processes do not share on CPUs.
NORMS = {'SimpleFeaturePyramid': 'LN', 'ViTAdapter': 'LN', 'ViTCoMer': 'LN'}


def build_seeded(adapter: str) -> nn.Module:
    torch.manual_seed(0)
    vit = {'type': 'TimmViT', 'model_name': 'test_vit', 'window_size': 3}
    norm = {'norm': NORMS[adapter]} if adapter in NORMS else {}
    model = Whole(MODELS.build({'type': adapter, 'vit': vit, **ADAPTERS[adapter], **norm}))
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return model.train()


def joint_batch() -> torch.Tensor:
    return torch.randn(4, 3, 64, 96, generator=torch.Generator().manual_seed(1))


def norm_inputs(dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns (6, 3) or (6, 3, 5, 4) in channels-last memory, and the gradients of the results."""
    shape = (6, 3, 5, 4)[:dim]
    found = 1 + 3 * torch.randn(2, *shape, generator=torch.Generator().manual_seed(dim))
    if dim == 4:
        found = (
            found.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, (2, 6))
        )
    return found[0], found[1]


def run_norm(dim: int, rank: int) -> dict[str, torch.Tensor]:
    """Two steps of SyncBatchNorm: process 0 has two values of a batch, process 1 the other four."""
    x, gradient = (one.split([2, 4])[rank] for one in norm_inputs(dim))
    return norm_results(nn.SyncBatchNorm(3), x, gradient)


def norm_results(
    norm: nn.Module, x: torch.Tensor, gradient: torch.Tensor
) -> dict[str, torch.Tensor]:
    norm.weight.data.copy_(torch.tensor([0.5, 1.0, 2.0]))
    x = x.clone().requires_grad_()
    for _ in range(2):
        out = norm(x)
        out.backward(gradient)
    return {
        'out': out.detach(),
        'input': x.grad,
        'weight': norm.weight.grad,
        'bias': norm.bias.grad,
        'mean': norm.running_mean,
        'var': norm.running_var,
        'steps': norm.num_batches_tracked,
    }


def train_half(rank: int, folder: str) -> None:
    """One of two processes: two steps' gradients of its half of the batch."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2
    )
    found = {}
    for adapter in ADAPTERS:
        model = DistributedDataParallel(build_seeded(adapter))
        for _ in range(2):
            model(joint_batch().chunk(2)[rank]).backward()
        found[adapter] = {name: p.grad for name, p in model.module.named_parameters()}
    found['norms'] = {str(dim): run_norm(dim, rank) for dim in (2, 4)}
    torch.save(found, f'{folder}/{rank}.pth')
    distributed.destroy_process_group()


def test_two_processes_have_the_gradients_of_one(tmp_path: Path) -> None:
    multiprocessing.spawn(train_half, args=(str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f'{rank}.pth') for rank in (0, 1))
    check_norms(first['norms'], second['norms'])
    for adapter in ADAPTERS:
        model = build_seeded(adapter)
        for _ in range(2):
            model(joint_batch()).backward()
        for name, parameter in model.named_parameters():
            assert torch.equal(first[adapter][name], second[adapter][name]), name
            assert parameter.grad is not None, name
            assert parameter.grad.any(), name
            torch.testing.assert_close(
                first[adapter][name], parameter.grad, rtol=1e-3, atol=1e-6, msg=name
            )


def check_norms(first: dict[str, Any], second: dict[str, Any]) -> None:
    """SyncBatchNorm of the two processes equals BatchNorm of the joint batch."""
    for dim, kind in ((2, nn.BatchNorm1d), (4, nn.BatchNorm2d)):
        x, gradient = (one.double() for one in norm_inputs(dim))
        joint = norm_results(kind(3).double(), x, gradient)
        one, two = first[str(dim)], second[str(dim)]
        found = {name: torch.cat((one[name], two[name])) for name in ('out', 'input')}
        found |= {name: one[name] + two[name] for name in ('weight', 'bias')}
        for name in ('mean', 'var', 'steps'):
            assert torch.equal(one[name], two[name])
            found[name] = one[name]
        for name, value in joint.items():
            torch.testing.assert_close(
                found[name].double(), value.double(), rtol=1e-5, atol=2e-6, msg=f'{name} {dim}'
            )
