"""Relevance of hand-built heads: where they read, and exactly what they read there."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vit_dense.inspection import explain

CLASSES = ('nothing', 'red', 'green')


class Backbone(nn.Module):
    """Maps of strides 4 and 8: means of the three channels."""

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return F.avg_pool2d(image, 4), F.avg_pool2d(image, 8)


class Segmentor(nn.Module):
    """Reads class 1 in channel 0, class 2 in channel 1 of the first map."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()

    def encode_decode(self, inputs: torch.Tensor, metas: list[dict]) -> torch.Tensor:
        fine, _ = self.backbone(inputs)
        nothing = torch.full_like(fine[:, :1], 0.5)
        logits = torch.cat((nothing, 2 * fine[:, :2]), dim=1)
        return F.interpolate(logits, scale_factor=4.0)


class Detector(nn.Module):
    """Detects the channels' means in the left and the right half."""

    def __init__(self, cut: str = '') -> None:
        super().__init__()
        self.backbone, self.cut = Backbone(), cut

    def predict(self, inputs: torch.Tensor, samples: list, rescale: bool) -> list:
        assert not rescale
        _, coarse = self.backbone(inputs)
        scores = torch.stack([coarse[0, 0, :, :2].mean(), coarse[0, 1, :, 2:].mean()])
        if self.cut == 'detach':  # as the dense heads of mmdet do
            scores = scores.detach()
        elif self.cut == 'copy':
            scores = torch.tensor(scores.tolist())
        elif self.cut == 'infinite':
            scores = scores + (coarse - coarse).sqrt().sum()
        found = SimpleNamespace(
            scores=scores,
            labels=torch.tensor([1, 2]),
            bboxes=torch.tensor([[0.0, 0.0, 16.0, 32.0], [16.0, 0.0, 32.0, 32.0]]),
        )
        return [SimpleNamespace(pred_instances=found)]


@pytest.fixture
def batch() -> dict:
    """Red at the upper left, green at the right; the last 8 rows are padding."""
    image = torch.zeros(1, 3, 32, 32)
    image[:, 0, :8, :8] = 1
    image[:, 1, 16:24, 16:] = 3
    image[:, 1, 24:] = 100
    sample = SimpleNamespace(metainfo={'img_shape': (24, 32)})
    return {'inputs': image, 'data_samples': [sample]}


@pytest.mark.parametrize('method', ['hirescam', 'gradcam'])
def test_a_segmented_class_is_where_the_head_reads_it(batch, method):
    found = explain(Segmentor(), batch, CLASSES, wanted=1, method=method)
    fine, coarse = found.maps
    assert found.class_index == 1
    assert (fine[:2, :2] > 0).all()
    fine[:2, :2] = 0
    assert (fine == 0).all()
    assert (coarse == 0).all()  # the head does not use it


def test_hirescam_is_what_each_cell_adds_to_the_score(batch):
    found = explain(Segmentor(), batch, CLASSES, wanted=2)
    # 4 x 4 pixels of a cell, each with twice the value 3; nothing of the padding
    expected = torch.zeros(8, 8)
    expected[4:6, 4:] = 16 * 2 * 3
    torch.testing.assert_close(found.maps[0], expected)
    assert found.target == "logits of 'green', over its predicted pixels (16.7 %)"


def test_gradcam_averages_the_gradient(batch):
    fine = explain(Segmentor(), batch, CLASSES, wanted=1, method='gradcam').maps[0]
    # 4 of 64 cells have the gradient 16 * 2
    torch.testing.assert_close(fine[:2, :2], torch.full((2, 2), 4 / 64 * 32))


def test_the_most_frequent_class_or_that_at_the_point(batch):
    assert explain(Segmentor(), batch, CLASSES).class_index == 0
    found = explain(Segmentor(), batch, CLASSES, point=(5, 2))
    assert found.class_index == 1
    expected = torch.zeros(8, 8)
    expected[0, 1] = 2
    torch.testing.assert_close(found.maps[0], expected)


@pytest.mark.parametrize('cut', ['', 'detach'])
def test_a_detected_class_is_where_the_head_reads_it(batch, cut):
    batch['inputs'][:, 1, 24:] = 0
    assert explain(Detector(cut), batch, CLASSES).class_index == 2  # 0.75, and 0.125 is below 0.3
    found = explain(Detector(cut), batch, CLASSES, wanted=1)
    assert found.target == "scores of 1 detections of 'red'"
    expected = torch.zeros(4, 4)
    expected[0, 0] = 1 / 8
    torch.testing.assert_close(found.maps[1], expected)
    assert (found.maps[0] == 0).all()
    assert explain(Detector(cut), batch, CLASSES, point=(3, 3)).class_index == 1


@pytest.mark.parametrize(
    ('model', 'options', 'message'),
    [
        (Segmentor(), {'wanted': 1, 'rows': 8}, "'red' nowhere.*Predicted are: nothing, green"),
        (Detector(), {'wanted': 0}, "no 'nothing' in this image. Detected are: red, green"),
        (Detector(), {'wanted': 2, 'point': (3, 3)}, 'at this point. Detected are: red'),
        (Detector(), {'point': (3, 40)}, 'detects nothing at this point'),
        (Detector('copy'), {}, 'Detector cuts the gradient'),
        (Detector('infinite'), {}, 'gradient of the scores .* is not finite'),
        (Segmentor(), {'method': 'lime'}, "method='lime': give one of hirescam, gradcam"),
    ],
)
def test_what_cannot_be_explained_is_refused(batch, model, options, message):
    batch['inputs'][:, 0, : options.pop('rows', 0)] = 0
    with pytest.raises(ValueError, match=message):
        explain(model, batch, CLASSES, **options)
    assert 'forward' not in model.backbone.__dict__


def test_one_channel_is_two_classes(batch):
    class Binary(Segmentor):
        decode_head = SimpleNamespace(threshold=0.3)

        def encode_decode(self, inputs, metas):
            return super().encode_decode(inputs, metas)[:, 1:2] - 1.5

    # logits of 0.5 in the red square, which is 0.62 > 0.3; of -1.5, 0.18, elsewhere
    found = explain(Binary(), batch, CLASSES[:2], wanted=1)
    assert found.target == "logits of 'red', over its predicted pixels (8.3 %)"
    assert (found.maps[0][:2, :2] == 16 * 2).all()
    assert explain(Binary(), batch, CLASSES[:2]).class_index == 0


def test_maps_with_cls_tokens_are_explained_as_without(batch):
    """`PlainViT(output_cls_token=True)` returns pairs."""

    class Pairs(Backbone):
        def forward(self, image: torch.Tensor) -> tuple[tuple[torch.Tensor, torch.Tensor], ...]:
            return tuple((x, x.mean((2, 3))) for x in super().forward(image))

    class Head(Segmentor):
        def encode_decode(self, inputs: torch.Tensor, metas: list[dict]) -> torch.Tensor:
            (fine, token), _ = self.backbone(inputs)
            fine = fine + 0 * token[..., None, None]
            nothing = torch.full_like(fine[:, :1], 0.5)
            logits = torch.cat((nothing, 2 * fine[:, :2]), dim=1)
            return F.interpolate(logits, scale_factor=4.0)

    model = Head()
    model.backbone = Pairs()
    found, plain = (explain(m, batch, CLASSES, wanted=1) for m in (model, Segmentor()))
    for ours, theirs in zip(found.maps, plain.maps, strict=True):
        assert torch.equal(ours, theirs)
