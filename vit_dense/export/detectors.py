"""Detectors of mmdet as modules of tensors: one-stage ones and those with regions.

One-stage detectors give the scores and boxes of all anchors, for any batch; the runtime selects
among them. Detectors with regions need non-maximum suppression between their stages, so their graph
has it, takes one image, and gives a fixed number of detections, padded with scores of 0.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import nms, roi_align

from ..engine.wrappers import in_channels
from .exportable import Exportable
from .graph import ExportError

DETECTORS = ('RetinaNet', 'ATSS', 'FasterRCNN', 'MaskRCNN')
_DENSE = ('RetinaNet', 'ATSS')


def wrap_detector(model: Any, size: tuple[int, int]) -> Exportable:
    """Make one of `DETECTORS` exportable for a fixed (height, width).

    Raises:
        ExportError: A setting cannot be exported.
    """
    kind = type(model).__name__
    name = f'{type(model.backbone).__name__} + {kind}'
    if kind in _DENSE:
        config = model.bbox_head.test_cfg
        _check_nms(config.nms, kind)
        dense = _DenseDetector(model, size).eval()
        settings = {
            'kind': 'dense',
            'levels': dense.levels,
            'score_thr': config.get('score_thr', 0),
            'nms_pre': max(0, config.get('nms_pre', 0)),
            'iou': config.nms.iou_threshold,
            'min_bbox_size': config.get('min_bbox_size', -1),
            'max_per_img': config.max_per_img,
        }
        outputs = ('scores', 'boxes') + (('factors',) if dense.has_factors else ())
        return Exportable(dense, outputs, settings, name)
    _check_nms(model.rpn_head.test_cfg.nms, kind)
    _check_nms(model.roi_head.test_cfg.nms, kind)
    regions = _RegionDetector(model, size).eval()
    settings = {
        'kind': 'final',
        'mask_threshold': model.roi_head.test_cfg.get('mask_thr_binary', 0.5),
    }
    final = ('boxes', 'scores', 'labels') + (('masks',) if regions.has_masks else ())
    extra = {'image_size': torch.tensor([float(edge) for edge in size])}
    return Exportable(regions, final, settings, name, batch=1, extra=extra)


def _check_nms(settings: Any, kind: str) -> None:
    if settings.get('type', 'nms') != 'nms' or settings.get('class_agnostic', False):
        raise ExportError(
            f'{kind} with nms={dict(settings)} cannot be exported: set '
            "nms=dict(type='nms', iou_threshold=...) in test_cfg."
        )


def _anchors(head: Any, model: Any, size: tuple[int, int]) -> list[Tensor]:
    """Return the anchors `(n, 4)` of each level, for images of (height, width)."""
    with torch.no_grad():
        maps = model.extract_feat(torch.zeros(1, in_channels(model), *size))
        scores = head(maps)[0]
        shapes = [x.shape[-2:] for x in scores]
        return head.prior_generator.grid_priors(shapes, device='cpu')


def _rows(maps: Tensor, width: int) -> Tensor:
    """Reshape `(B, A * width, h, w)` to `(B, h * w * A, width)`, the order of the anchors."""
    return maps.permute(0, 2, 3, 1).flatten(1).unflatten(1, (-1, width))


def _probabilities(head: Any, scores: Tensor) -> Tensor:
    return scores.sigmoid() if head.use_sigmoid_cls else scores.softmax(-1)[..., :-1]


class _DenseDetector(nn.Module):
    def __init__(self, model: Any, size: tuple[int, int]) -> None:
        super().__init__()
        self.model = model
        anchors = _anchors(model.bbox_head, model, size)
        self.levels = [len(level) for level in anchors]
        self.register_buffer('anchors', torch.cat(anchors), persistent=False)
        self.has_factors = type(model).__name__ == 'ATSS'

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return scores `(B, N, K)`, boxes `(B, N, 4)` in pixels, and perhaps factors `(B, N)`."""
        head = self.model.bbox_head
        found = head(self.model.extract_feat(image))
        logits = torch.cat([_rows(x, head.cls_out_channels) for x in found[0]], dim=1)
        deltas = torch.cat([_rows(x, 4) for x in found[1]], dim=1)
        boxes = _decode(head.bbox_coder, self.anchors, deltas)
        outputs = _probabilities(head, logits), boxes
        if not self.has_factors:
            return outputs
        factors = torch.cat([_rows(x, 1) for x in found[2]], dim=1)
        return *outputs, factors[..., 0].sigmoid()


def _decode(coder: Any, anchors: Any, deltas: Tensor) -> Tensor:
    """Decode `(B, N, 4)` deltas of `(N, 4)` anchors, without clipping to the image.

    Source: `delta2bbox` of mmdet (R-CNN, Girshick et al. 2014, appendix C).
    """
    mean, std = deltas.new_tensor(coder.means), deltas.new_tensor(coder.stds)
    deltas = deltas * std + mean
    edges = anchors[..., 2:] - anchors[..., :2]
    centres = (anchors[..., 2:] + anchors[..., :2]) * 0.5
    limit = float(abs(torch.tensor(16 / 1000).log()))  # mmdet's `wh_ratio_clip`
    new_edges = edges * deltas[..., 2:].clamp(-limit, limit).exp()
    new_centres = centres + edges * deltas[..., :2]
    return torch.cat((new_centres - new_edges * 0.5, new_centres + new_edges * 0.5), dim=-1)


class _RegionDetector(nn.Module):
    def __init__(self, model: Any, size: tuple[int, int]) -> None:
        super().__init__()
        self.model = model
        anchors = _anchors(model.rpn_head, model, size)
        self.levels = [len(level) for level in anchors]
        self.register_buffer('anchors', torch.cat(anchors), persistent=False)
        self.has_masks = bool(model.roi_head.with_mask)

    def forward(self, image: Tensor, image_size: Tensor) -> tuple[Tensor, ...]:
        """Return the detections of an image `(1, C, H, W)`, of which `image_size` is not padding.

        Returns:
            Boxes `(M, 4)` in pixels, scores `(M,)`, labels `(M,)`, and perhaps mask probabilities
            `(M, h, w)`.
        """
        maps = self.model.extract_feat(image)
        limits = image_size.flip(0).repeat(2)  # width, height, width, height
        boxes, is_box = self._proposals(maps, limits)
        boxes, scores, labels = self._detections(maps, boxes, is_box, limits)
        if not self.has_masks:
            return boxes, scores, labels
        head = self.model.roi_head
        logits = head.mask_head(_extract(head.mask_roi_extractor, maps, boxes))
        own = torch.zeros_like(labels) if head.mask_head.class_agnostic else labels
        masks = logits[torch.arange(len(logits)), own].sigmoid()
        return boxes, scores, labels, masks

    def _proposals(self, maps: Any, limits: Tensor) -> tuple[Tensor, Tensor]:
        """Return the proposals `(P, 4)` and which of them are more than padding."""
        head = self.model.rpn_head
        config = head.test_cfg
        found_scores, found_deltas = head(maps)
        anchors = self.anchors.split(self.levels)  # type: ignore[operator]
        scores, deltas, priors, levels = [], [], [], []
        for i, (logits, delta) in enumerate(zip(found_scores, found_deltas, strict=True)):
            score = _probabilities(head, _rows(logits, head.cls_out_channels)[0])[:, 0]
            count = min(config.nms_pre, self.levels[i]) if config.nms_pre > 0 else self.levels[i]
            score, best = score.topk(count)
            scores.append(score)
            deltas.append(_rows(delta, 4)[0][best])
            priors.append(anchors[i][best])
            levels.append(torch.full((count,), float(i)))
        boxes = _decode(head.bbox_coder, torch.cat(priors), torch.cat(deltas))
        boxes = _clip(boxes, limits)
        edges = boxes[:, 2:] - boxes[:, :2]
        is_box = (edges > max(0.0, config.get('min_bbox_size', 0))).all(-1)
        score = torch.where(is_box, torch.cat(scores), -1.0)
        best = _nms(boxes, score, torch.cat(levels), config.nms.iou_threshold, config.max_per_img)
        return _take(boxes, best), _take(is_box.to(boxes.dtype), best)

    def _detections(
        self, maps: Any, boxes: Tensor, is_box: Tensor, limits: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        head = self.model.roi_head
        config = head.test_cfg
        logits, deltas = head.bbox_head(_extract(head.bbox_roi_extractor, maps, boxes))
        probabilities = logits.softmax(-1)[:, :-1] * is_box[:, None]  # (P, K)
        classes = probabilities.shape[1]
        deltas = deltas.unflatten(1, (-1, 4))
        decoded = _decode(head.bbox_head.bbox_coder, boxes[:, None], deltas)
        decoded = _clip(decoded, limits).expand(-1, classes, -1).flatten(0, 1)
        scores = probabilities.flatten()
        labels = torch.arange(classes).repeat(len(boxes))
        candidates = (scores > config.score_thr).nonzero()[:, 0]
        boxes, scores, labels = decoded[candidates], scores[candidates], labels[candidates]
        kind = labels.to(boxes.dtype)
        best = _nms(boxes, scores, kind, config.nms.iou_threshold, config.max_per_img)
        return _take(boxes, best), _take(scores, best), _take(labels, best)


def _clip(boxes: Tensor, limits: Tensor) -> Tensor:
    return torch.minimum(boxes.clamp(min=0), limits)


def _nms(boxes: Tensor, scores: Tensor, group: Tensor, iou: float, count: int) -> Tensor:
    """Return the rows of the best `count` boxes; -1 where there are fewer."""
    span = torch.cat((boxes.flatten(), boxes.new_zeros(1))).max() + 1
    kept = nms(boxes + (group * span)[:, None], scores, iou)
    return torch.cat((kept, kept.new_full((count,), -1)))[:count]


def _take(values: Tensor, rows: Tensor) -> Tensor:
    """Return rows of `values`; zeros for the row -1."""
    return torch.cat((values.new_zeros(1, *values.shape[1:]), values))[rows + 1]


def _extract(extractor: Any, maps: Any, boxes: Tensor) -> Tensor:
    """Sample regions from the map of their size, as mmdet's `SingleRoIExtractor`."""
    rois = torch.cat((boxes.new_zeros(len(boxes), 1), boxes), dim=1)
    levels = extractor.map_roi_levels(rois, len(extractor.roi_layers))
    total: Any = 0
    for i, (layer, feature) in enumerate(zip(extractor.roi_layers, maps, strict=False)):
        sampled = roi_align(
            feature,
            rois,
            layer.output_size,
            layer.spatial_scale,
            layer.sampling_ratio,
            layer.aligned,
        )
        total = total + sampled * (levels == i)[:, None, None, None]
    return total
