"""What mmseg computes wrongly is computed rightly: against PyTorch's own functions."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.structures import PixelData
from mmseg.models import FCNHead
from mmseg.models.decode_heads import decode_head
from mmseg.models.losses import CrossEntropyLoss, cross_entropy_loss
from mmseg.models.segmentors.seg_tta import SegTTAModel
from mmseg.structures import SegDataSample
from torch.nn import functional as F

from vit_dense.segmentation import corrections

VOID = 255
WEIGHTS = [0.5, 1.0, 4.0]


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of three classes, and labels of which some are void."""
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(0, 3, (2, 6, 5), generator=generator)
    label[:, 0] = VOID
    return torch.randn(2, 3, 6, 5, generator=generator), label


def loss(pred: torch.Tensor, label: torch.Tensor, **options: Any) -> torch.Tensor:
    return CrossEntropyLoss(**options)(pred, label, ignore_index=VOID)


def test_weighted_mean_is_that_of_pytorch(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    pred, label = batch
    ours = loss(pred, label, class_weight=WEIGHTS, avg_non_ignore=True)
    expected = F.cross_entropy(pred, label, torch.tensor(WEIGHTS), ignore_index=VOID)
    torch.testing.assert_close(ours, expected)
    plain = F.cross_entropy(pred, label, ignore_index=VOID)
    assert abs(ours - plain) > 0.01, 'the weights count'


@pytest.mark.parametrize('avg_non_ignore', [True, False])
def test_weights_of_one_change_nothing(
    batch: tuple[torch.Tensor, torch.Tensor], avg_non_ignore: bool
) -> None:
    options = {'avg_non_ignore': avg_non_ignore}
    ours = loss(*batch, class_weight=[1.0] * 3, **options)
    torch.testing.assert_close(ours, loss(*batch, **options))


def test_labels_without_void_give_what_mmseg_gave() -> None:
    pred, label = torch.randn(1, 3, 4, 4), torch.arange(16).view(1, 4, 4) % 3
    expected = F.cross_entropy(pred, label, torch.tensor(WEIGHTS))
    torch.testing.assert_close(loss(pred, label, class_weight=WEIGHTS), expected)


def test_sums_and_single_pixels_are_those_of_pytorch(
    batch: tuple[torch.Tensor, torch.Tensor],
) -> None:
    weights = torch.tensor(WEIGHTS)
    for reduction in ('sum', 'none'):
        expected = F.cross_entropy(*batch, weights, ignore_index=VOID, reduction=reduction)
        ours = loss(*batch, class_weight=WEIGHTS, reduction=reduction)
        torch.testing.assert_close(ours, expected)


def test_sigmoid_weights_are_of_channels(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    pred, label = batch
    ours = loss(pred, label, class_weight=WEIGHTS, use_sigmoid=True, avg_non_ignore=True)
    valid = label != VOID
    one_hot = F.one_hot(label[valid], 3).float()
    logits = pred.permute(0, 2, 3, 1)[valid]
    expected = F.binary_cross_entropy_with_logits(logits, one_hot, pos_weight=torch.tensor(WEIGHTS))
    torch.testing.assert_close(ours, expected)


def test_accuracy_of_one_channel() -> None:
    head = FCNHead(
        in_channels=1,
        channels=1,
        num_convs=0,
        concat_input=False,
        num_classes=2,
        out_channels=1,
        threshold=0.5,
        loss_decode={'type': 'CrossEntropyLoss', 'use_sigmoid': True},
    )
    label = torch.tensor([[[0, 1, 1, VOID]]])
    sample = SegDataSample(gt_sem_seg=PixelData(data=label))
    logits = torch.tensor([[[[-1.0, 2.0, -2.0, 5.0]]]])
    assert head.loss_by_feat(logits, [sample])['acc_seg'].item() == pytest.approx(200 / 3)


def test_one_channel_keeps_its_threshold_under_tta() -> None:
    model = SegTTAModel.__new__(SegTTAModel)
    torch.nn.Module.__init__(model)
    head = SimpleNamespace(threshold=0.4)
    model.__dict__['module'] = SimpleNamespace(out_channels=1, decode_head=head)
    views = []
    for scores in ([0.1, 0.9, 0.5], [0.3, 0.7, 0.2]):
        view = SegDataSample(seg_logits=PixelData(data=torch.tensor([[scores]])))
        view.set_metainfo({'img_path': 'a.png'})
        views.append(view)
    (merged,) = model.merge_preds([views])
    assert merged.pred_sem_seg.data.flatten().tolist() == [0.0, 1.0, 0.0], 'means 0.2, 0.8, 0.35'


@pytest.mark.parametrize(
    ('owner', 'name', 'original', 'test'),
    [
        (
            cross_entropy_loss,
            'cross_entropy',
            '_cross_entropy',
            test_weighted_mean_is_that_of_pytorch,
        ),
        (
            cross_entropy_loss,
            'binary_cross_entropy',
            '_binary_cross_entropy',
            test_sigmoid_weights_are_of_channels,
        ),
        (decode_head, 'accuracy', '_accuracy', test_accuracy_of_one_channel),
        (SegTTAModel, 'merge_preds', '_merge', test_one_channel_keeps_its_threshold_under_tta),
    ],
    ids=['cross entropy', 'sigmoid', 'accuracy', 'merging'],
)
def test_correction_is_needed(
    owner: Any,
    name: str,
    original: str,
    test: Any,
    batch: tuple[torch.Tensor, torch.Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If this fails, mmseg is mended: remove the correction."""
    monkeypatch.setattr(owner, name, getattr(corrections, original))
    with pytest.raises((AssertionError, RuntimeError, IndexError)):
        test(*[batch][: test.__code__.co_argcount])
