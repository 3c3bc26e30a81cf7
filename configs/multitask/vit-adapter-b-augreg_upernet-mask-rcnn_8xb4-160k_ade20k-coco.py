"""ADE20K's classes and COCO's objects on one ViT-Adapter-B, with learned weights of the tasks.

Eight processes of two images of each data set. The heads are those of `vit_upernet_ade20k.py` and
`vit_maskrcnn_coco.py`; `docs/multitask.md` shows how the latter loads the checkpoint.
"""

_base_ = [
    '../_base_/models/upernet_mask_rcnn_vit_adapter.py',
    '../_base_/datasets/ade20k_coco.py',
    '../_base_/schedules/adamw_160k.py',
    '../_base_/multitask_runtime.py',
]

crop_size = _base_.crop_size
model = dict(
    # Blocks attend within windows, so that COCO's images fit in memory.
    backbone=dict(vit=dict(window_size=14)),
    tasks=dict(
        seg=dict(
            data_preprocessor=dict(size=crop_size),
            decode_head=dict(num_classes=_base_.seg_num_classes),
            auxiliary_head=dict(num_classes=_base_.seg_num_classes),
            test_cfg=dict(
                mode='slide', crop_size=crop_size, stride=tuple(e * 2 // 3 for e in crop_size)
            ),
        ),
    ),
    loss_weights='uncertainty',
)
default_hooks = dict(checkpoint=dict(save_best='seg/mIoU'))
