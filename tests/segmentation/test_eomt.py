"""EoMT: queries among the tokens of a ViT, masked attention and its annealing, losses."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from families import SMALL, small_kwargs
from mmengine.config import ConfigDict
from mmengine.logging import MessageHub
from mmengine.registry import DATASETS, MODELS
from mmengine.runner import Runner
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from small_vits import randomise
from tiny_training import tiny_runner
from torch.utils.data import Dataset

from vit_dense.apis.convert_results import class_probabilities
from vit_dense.backbones import TimmViT
from vit_dense.backbones.families import TokenContext
from vit_dense.segmentation.eomt import EoMT, build_eomt_head

PLAIN, DINOV2, DINOV3 = 'test_vit', 'vit_small_patch14_reg4_dinov2', 'vit_small_patch16_dinov3'
MIXED = 'vit_small_patch16_rope_mixed_224'
TAKEN = {
    'test_vit', 'vit_tiny_patch16_224', 'vit_base_patch32_224', 'vit_small_patch8_224',
    'vit_base_patch16_clip_224', 'vit_base_patch16_siglip_224', 'vit_small_patch14_dinov2',
    'vit_small_patch14_reg4_dinov2', 'deit_tiny_patch16_224', 'deit_tiny_distilled_patch16_224',
    'deit3_small_patch16_224', 'vit_small_patch16_dinov3', 'vit_small_patch16_rope_mixed_224',
    'vit_tiny_r_s16_p8_224',
}  # fmt: skip
BEIT = {
    'model_name': 'beit_base_patch16_224',
    'model_kwargs': {**small_kwargs('beit_base_patch16_224'), 'global_pool': 'token'},
}
UNNORMED = 'final_norm=True'
QUERIES = 5


@pytest.fixture(autouse=True)
def hub(request: pytest.FixtureRequest) -> Iterator[MessageHub]:
    """The message hub of a training of its own, which has not begun."""
    yield MessageHub.get_instance(request.node.name)
    MessageHub._instance_dict.clear()


def build(name: str = PLAIN, *, vit: dict[str, Any] | None = None, **options: Any) -> EoMT:
    """A small network with random values everywhere."""
    kwargs = small_kwargs(name)
    config = {'type': 'TimmViT', 'model_name': name, 'final_norm': True, 'model_kwargs': kwargs}
    options = {'num_queries': QUERIES, 'num_blocks': 2, **options}
    network = EoMT({**config, **(vit or {})}, **options)
    randomise(network)
    return network


def image(*size: int) -> torch.Tensor:
    return torch.randn(2, 3, *size)


# the network


@pytest.mark.parametrize('name', [PLAIN, DINOV2, DINOV3])
def test_blocks_before_the_queries_are_timms(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network, given = build(name), image(56, 112)
    seen: list[torch.Tensor] = []
    add = network.vit.family.add_queries

    def spy(model: Any, tokens: torch.Tensor, *rest: Any) -> torch.Tensor:
        seen.append(tokens)
        return add(model, tokens, *rest)

    monkeypatch.setattr(network.vit.family, 'add_queries', spy)
    patch = network.vit.patch_size
    if patch == 16:
        given = image(48, 96)
    network(given)
    ((maps, prefix),) = network.vit.model.forward_intermediates(
        given, indices=[1], intermediates_only=True, return_prefix_tokens=True
    )
    expected = torch.cat((prefix, maps.flatten(2).transpose(1, 2)), dim=1)
    assert torch.equal(seen[0], expected)


@pytest.mark.parametrize('name', [PLAIN, DINOV2, DINOV3, MIXED])
def test_masked_attention_is_attention_without_the_masked_patches(name: str) -> None:
    network = build(name)
    vit, prefix = network.vit, network.vit.num_prefix_tokens
    tokens, context = vit.embed(image(64, 96))
    tokens = vit.family.add_queries(vit.model, tokens, context, network.queries.weight)
    patches = context.grid[0] * context.grid[1]
    inside = torch.rand(2, QUERIES, patches) > 0.6
    inside[:, 0] = False  # sees queries and prefix tokens alone
    context.attn_mask = torch.ones(2, 1, tokens.shape[1], tokens.shape[1], dtype=torch.bool)
    context.attn_mask[:, 0, prefix : prefix + QUERIES, prefix + QUERIES :] = inside
    found = vit.run_blocks(tokens, context, 2, 3)
    block: Any = vit.model.blocks[2]
    if context.rope is not None:  # timm's own way to leave tokens without rotation
        block.attn.num_prefix_tokens += QUERIES
    others = torch.ones(prefix + QUERIES, dtype=torch.bool)
    for batch in range(2):
        for query in range(QUERIES):
            kept = torch.cat((others, inside[batch, query]))
            rope = context.rope if context.rope is None else context.rope[..., QUERIES:, :]
            rope = rope[2] if rope is not None and rope.dim() > 2 else rope
            more = {} if rope is None else {'rope': rope[..., inside[batch, query], :]}
            alone = block(tokens[batch : batch + 1, kept], **more)
            place = prefix + query
            torch.testing.assert_close(found[batch, place], alone[0, place], rtol=1e-4, atol=1e-5)


def test_attention_mask_by_hand() -> None:
    network = build(num_queries=2)
    context = TokenContext((2, 3))
    cells = torch.tensor([[[1.0, -1, 1], [-1, -1, -1]], [[-1, -1, -1], [-1, 1, 1]]])
    masks = F.interpolate(cells[None], scale_factor=4, mode='nearest')  # as upscaled logits
    found = network.attention_mask(masks, context, 0)
    expected = torch.ones(9, 9, dtype=torch.bool)  # a class token, two queries, six patches
    expected[1, 3:] = torch.tensor([1, 0, 1, 0, 0, 0], dtype=torch.bool)
    expected[2, 3:] = torch.tensor([0, 0, 0, 0, 1, 1], dtype=torch.bool)
    assert found is not None
    assert torch.equal(found, expected[None, None])


def test_annealing_frees_whole_queries(hub: MessageHub) -> None:
    network = build(num_queries=400)
    hub.update_info_dict({'iter': 25, 'max_iters': 120})  # 1/24 after 1/6
    context = TokenContext((2, 3))
    masks = torch.full((2, 400, 8, 12), -1.0)
    torch.manual_seed(3)
    found = network.attention_mask(masks, context, 0)
    assert found is not None
    rows = found[:, 0, 1:401, 401:]
    assert torch.equal(rows.all(-1), rows.any(-1)), 'a query is masked or not'
    assert (~rows[..., 0]).float().mean().item() == pytest.approx(0.75**0.9, abs=0.04)
    torch.manual_seed(3)
    again = network.attention_mask(masks, context, 0)
    assert again is not None
    assert torch.equal(found, again)
    hub.update_info('iter', 120)
    assert network.attention_mask(masks, context, 0) is None


def test_schedule_of_the_release(hub: MessageHub) -> None:
    """The steps of its ADE20K config for ViT-L, of 39 120 steps; halves for three blocks."""
    network = build('vit_tiny_patch16_224', num_blocks=4)
    hub.update_info('max_iters', 39120)
    starts, ends = [6520, 13040, 19560, 26080], [13040, 19560, 26080, 32600]
    for step in (0, 6520, 6521, 8000, 13040, 15000, 24000, 32599, 32600, 39119):
        hub.update_info('iter', step)
        for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
            expected = 1.0 if step < start else 0.0
            if start <= step < end:
                expected = (1 - (step - start) / (end - start)) ** 0.9
            assert network.masked_share(number) == pytest.approx(expected, abs=1e-9)
    network = build(num_blocks=3)
    for number, half in enumerate((1 / 4, 1 / 2, 3 / 4)):
        hub.update_info('iter', 39120 * half)
        assert network.masked_share(number) == pytest.approx(0.5**0.9)


def test_outside_of_a_training_all_queries_are_masked() -> None:
    assert [build().masked_share(number) for number in range(2)] == [1.0, 1.0]


def test_one_prediction_and_no_mask_at_test_time(monkeypatch: pytest.MonkeyPatch) -> None:
    network, given = build(num_blocks=3).eval(), image(64, 96)
    vit = network.vit
    monkeypatch.setattr(network, 'attention_mask', None)  # not to be called
    ((queries, masks),) = network(given)
    tokens, context = vit.embed(given)
    tokens = vit.run_blocks(tokens, context, 0, 1)
    given_queries = network.queries.weight.expand(2, -1, -1)
    tokens = torch.cat((tokens[:, :1], given_queries, tokens[:, 1:]), 1)
    for block in vit.model.blocks[1:]:
        tokens = block(tokens)
    tokens = vit.model.norm(tokens)
    assert torch.allclose(queries, tokens[:, 1 : 1 + QUERIES], atol=1e-6)
    pixels = network.upscale(tokens[:, 1 + QUERIES :].mT.unflatten(2, (4, 6)))
    small = torch.einsum('bqc,bchw->bqhw', network.mask_head(queries), pixels)
    assert small.shape == (2, QUERIES, 16, 24)
    expected = F.interpolate(small, scale_factor=4, mode='bilinear')
    torch.testing.assert_close(masks, expected, rtol=1e-4, atol=1e-5)


def test_queries_keep_their_order() -> None:
    network, given = build().eval(), image(64, 64)
    ((queries, masks),) = network(given)
    order = torch.tensor([3, 0, 4, 1, 2])
    with torch.no_grad():
        network.queries.weight.copy_(network.queries.weight[order])
    ((moved, moved_masks),) = network(given)
    torch.testing.assert_close(moved, queries[:, order], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(moved_masks, masks[:, order], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(('name', 'size'), [(PLAIN, (50, 70)), (DINOV2, (64, 96))])
@pytest.mark.parametrize('training', [False, True])
def test_masks_cover_the_image_exactly(name: str, size: tuple[int, int], training: bool) -> None:
    network, given = build(name), image(*size)
    patch = network.vit.patch_size
    network.train(training)
    network.vit.eval()
    padded = F.pad(given, (0, -size[1] % patch, 0, -size[0] % patch))
    found, whole = network(given), network(padded)
    assert len(found) == (3 if training else 1)
    for (queries, masks), (same, of_padded) in zip(found, whole, strict=True):
        torch.testing.assert_close(queries, same)
        assert masks.shape == (2, QUERIES, *size)
        full = F.interpolate(of_padded, padded.shape[-2:], mode='bilinear')
        torch.testing.assert_close(masks, full[..., : size[0], : size[1]])


def test_masks_of_whole_patches_stay_small_in_training() -> None:
    for (_, masks), name in zip(build().train()(image(64, 96)), range(3), strict=True):
        assert masks.shape == (2, QUERIES, 16, 24), name


@pytest.mark.parametrize('name', SMALL)
def test_families(name: str) -> None:
    if name not in TAKEN:
        with pytest.raises(ValueError, match=f'take no attention mask|{UNNORMED}'):
            build(name)
        return
    network = build(name).train()
    predictions = network(image(64, 96))
    assert len(predictions) == 3
    assert all(x.isfinite().all() for pair in predictions for x in pair)


def test_checkpointing_changes_nothing() -> None:
    gradients = []
    for given in (False, True):
        network = build(DINOV3, vit={'grad_checkpointing': given}).train()
        torch.manual_seed(1)
        sum(masks.square().mean() for _, masks in network(image(64, 64))).backward()
        gradients.append([p.grad for p in network.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


# mistakes


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'vit': {'type': 'TimmPyramid', 'model_name': 'test_convnext'}}, 'hierarchical model'),
        ({'vit': BEIT}, 'beit_base_patch16_224.*take no attention mask'),
        ({'vit': {'type': 'CachedTimmViT'}}, "use vit.type='TimmViT'"),
        ({'vit': {'final_norm': False}}, 'set vit.final_norm=True'),
        ({'vit': {'window_size': 3}}, r'window_size=3.*blocks \[4, 5\] to vit.global_blocks'),
        ({'num_blocks': 0}, 'has 6 blocks'),
        ({'num_blocks': 7}, 'has 6 blocks'),
    ],
)
def test_mistakes_end_in_one_message(options: dict[str, Any], message: str) -> None:
    vit = {'type': 'TimmViT', 'model_name': PLAIN, 'final_norm': True} | options.pop('vit', {})
    if vit['type'] == 'TimmPyramid':
        del vit['final_norm']
    with pytest.raises(ValueError, match=message) as raised:
        EoMT(vit, **{'num_blocks': 2, **options})
    assert len(str(raised.value).splitlines()) <= 3


# head and losses


def samples(size: tuple[int, int], classes: int = 3) -> list[SegDataSample]:
    """Two label maps in bands of columns; the second has void pixels and one class alone."""
    found = []
    for number in range(2):
        sample = SegDataSample(metainfo={'img_shape': size, 'ori_shape': size})
        label = (torch.arange(size[1]) * classes // size[1]).expand(1, *size).clone()
        if number:
            label[:] = 1
            label[:, : size[0] // 2] = 255
        sample.gt_sem_seg = PixelData(data=label)
        found.append(sample)
    return found


def build_head(**options: Any) -> Any:
    return build_eomt_head(**{'in_channels': 64, 'num_classes': 3, 'num_points': 64, **options})


def test_losses_by_hand() -> None:
    """mmdet samples zeros around the image, so that masks of whole images cost something."""
    head, (sample, _) = build_head(), samples((32, 48))
    sample.gt_sem_seg.data[:] = 1
    masks = torch.tensor([-40.0, -40, 40, -40]).view(1, 4, 1, 1).expand(1, 4, 8, 12)
    costs = []
    for classes in ([3, 3, 1, 3], [3, 3, 0, 3]):
        scores = 40.0 * F.one_hot(torch.tensor(classes), 4).float()[None]
        head.forward = lambda *_, scores=scores: ([scores], [masks])
        head.num_queries = 4
        torch.manual_seed(1)
        losses = head.loss(None, [sample], None)
        assert set(losses) == {'loss_cls', 'loss_mask', 'loss_dice'}
        costs.append([losses[f'loss_{kind}'].item() for kind in ('cls', 'mask', 'dice')])
    assert costs[0][0] < 1e-6
    assert costs[0][1:] == costs[1][1:], 'the same query has the mask'
    # the class of one query is wrong by 40, of weights 1 for it and 0.1 for each other
    assert costs[1][0] == pytest.approx(2 * 40 / 1.3, rel=1e-3)


def test_void_pixels_belong_to_no_segment() -> None:
    instances, _ = build_head()._seg_data_to_instance_data(samples((8, 6)))
    assert instances[1].labels.tolist() == [1]
    assert instances[1].masks[0].tolist() == [[0] * 6] * 4 + [[1] * 6] * 4


def test_losses_of_all_predictions_reach_every_parameter() -> None:
    network, head = build(num_blocks=3).train(), build_head()
    losses = head.loss(network(image(64, 96)), samples((64, 96)), None)
    kinds = ('loss_cls', 'loss_mask', 'loss_dice')
    earlier = [f'd{number}.{kind}' for number in range(3) for kind in kinds]
    assert set(losses) == {*kinds, *earlier}
    sum(losses.values()).backward()
    for name, parameter in [*network.named_parameters(), *head.named_parameters()]:
        assert parameter.grad is not None, name
        # softmax does not depend on a bias of the keys
        assert parameter.grad.any() or 'class_weight' in name, name


@pytest.mark.parametrize('frozen_stages', [3, 4])
def test_frozen_blocks_pass_gradients_to_the_queries(frozen_stages: int) -> None:
    network, head = build(vit={'frozen_stages': frozen_stages}).train(), build_head()
    losses = head.loss(network(image(64, 64)), samples((64, 64)), None)
    sum(losses.values()).backward()
    assert network.queries.weight.grad is not None
    for name, parameter in network.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    assert not any(p.requires_grad for p in network.vit.model.blocks[:frozen_stages].parameters())


def test_lora() -> None:
    pytest.importorskip('peft', reason='the extra [peft] is not installed')
    network, head = build(vit={'type': 'LoRATimmViT', 'rank': 2}).train(), build_head()
    losses = head.loss(network(image(64, 64)), samples((64, 64)), None)
    sum(losses.values()).backward()
    trained = {name for name, p in network.named_parameters() if p.requires_grad}
    assert {name for name in trained if name.startswith('vit.')}
    assert all(dict(network.named_parameters())[name].grad is not None for name in trained)


def test_scores_by_hand() -> None:
    head = build_head(num_classes=2).eval()
    queries, masks = torch.randn(1, 3, 64), torch.randn(1, 3, 4, 5)
    found = head.predict([(queries, masks)], None, None)
    shares = head.cls_embed(queries)[0].softmax(-1)  # the last is "nothing"
    expected = torch.zeros(2, 4, 5)
    for query in range(3):
        for kind in range(2):
            expected[kind] += shares[query, kind] * masks[0, query].sigmoid()
    torch.testing.assert_close(found[0], expected)


def test_probabilities_are_shares() -> None:
    scores = torch.tensor([3.0, 1.0]).view(2, 1, 1)
    model: Any = torch.nn.Module()
    model.decode_head = build_head()
    assert class_probabilities(scores, model).flatten().tolist() == [0.75, 0.25]


def test_types_are_registered() -> None:
    assert MODELS.get('EoMT') is EoMT
    assert isinstance(build().vit, TimmViT)
    assert type(build_head()).__name__ == 'EoMTHead'


# in a training


@DATASETS.register_module()
class Bands(Dataset):
    """Two images with the labels of `samples`, as mmseg's pipelines pack them."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample = samples((64, 64))[index]
        pixels = 40 + 80 * sample.gt_sem_seg.data.clamp(max=2).expand(3, -1, -1)
        return {'inputs': pixels.to(torch.uint8), 'data_samples': sample}


def runner(work: Path, steps: int = 4) -> Runner:
    vit = {'type': 'TimmViT', 'model_name': PLAIN, 'final_norm': True, 'drop_path_rate': 0.2}
    preprocessor = {'type': 'SegDataPreProcessor', 'mean': [127.5] * 3, 'std': [127.5] * 3}
    model = {
        'type': 'EncoderDecoder',
        'data_preprocessor': {**preprocessor, 'size': (64, 64)},
        'backbone': {'type': 'EoMT', 'vit': vit, 'num_queries': 20, 'num_blocks': 2},
        'decode_head': {'type': 'EoMTHead', 'in_channels': 64, 'num_classes': 3, 'num_points': 64},
        'test_cfg': {'mode': 'whole'},
    }  # fmt: skip
    loader = {'batch_size': 2, 'dataset': {'type': 'Bands'}, 'num_workers': 0}
    return tiny_runner(
        work,
        model=ConfigDict(model),
        default_scope='mmseg',
        train_dataloader={**loader, 'sampler': {'type': 'InfiniteSampler', 'shuffle': False}},
        train_cfg={'by_epoch': False, 'max_iters': steps},
        val_dataloader=None,
        val_cfg=None,
        val_evaluator=None,
        optim_wrapper={'optimizer': {'type': 'AdamW', 'lr': 2e-3}},
        default_hooks={
            'checkpoint': {'type': 'CheckpointHook', 'by_epoch': False, 'interval': steps // 2},
            'step_seed': {'type': 'StepSeedHook'},
        },
        randomness={'seed': 3},
    )


def test_a_resumed_training_masks_what_an_uninterrupted_one_masks(tmp_path: Path) -> None:
    whole = runner(tmp_path / 'a' / 'work')
    shares: list[float] = []
    network = whole.model.backbone
    share = network.masked_share
    network.masked_share = lambda number: shares.append(share(number)) or shares[-1]
    whole.train()
    expected = [[1.0, 1.0], [0.5, 1.0], [0.0, 1.0], [0.0, 0.5]]  # of iterations 0..3
    assert shares == pytest.approx([x**0.9 for row in expected for x in row], abs=1e-4)
    resumed = runner(tmp_path / 'b' / 'work')
    resumed._load_from, resumed._resume = str(tmp_path / 'a' / 'work' / 'iter_2.pth'), True
    resumed.train()
    assert resumed.iter == 4
    for name, tensor in resumed.model.state_dict().items():
        assert torch.equal(tensor, whole.model.state_dict()[name]), name


@pytest.mark.slow
def test_training_learns_the_bands(tmp_path: Path) -> None:
    trained = runner(tmp_path / 'work', steps=24)
    trained.train()
    model = trained.model.eval()
    batch = [Bands()[0]]
    data = {key: [one[key] for one in batch] for key in ('inputs', 'data_samples')}
    (found,) = model.test_step(data)
    right = found.pred_sem_seg.data == batch[0]['data_samples'].gt_sem_seg.data
    assert right.float().mean() > 0.8
