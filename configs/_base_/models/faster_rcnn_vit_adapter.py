"""Faster R-CNN on ViT-Adapter-B: Mask R-CNN without masks (Ren et al. 2015)."""

_base_ = './mask_rcnn_vit_adapter.py'

model = dict(
    type='FasterRCNN',
    data_preprocessor=dict(pad_mask=False),
    roi_head=dict(mask_roi_extractor=None, mask_head=None),
    train_cfg=dict(rcnn=dict(assigner=dict(match_low_quality=False))),
)
