"""Two cores, minutes: one tiny ViT-Adapter segments drawn street scenes and finds their objects.

`make demo` writes the data. The heads are those of `vit_upernet_demo.py` and
`vit_maskrcnn_demo.py`.
"""

_base_ = [
    '_base_/models/upernet_mask_rcnn_vit_adapter.py',
    '_base_/datasets/masks_and_boxes.py',
    '_base_/schedules/adamw_600.py',
    '_base_/multitask_runtime.py',
]

seg_num_classes, num_classes = len(_base_.seg_classes), len(_base_.det_classes)
roi_extractor = dict(roi_layer=dict(sampling_ratio=2), out_channels=64, finest_scale=28)
model = dict(
    backbone=dict(
        # timm's test model: six blocks of width 64, no download.
        vit=dict(model_name='test_vit', pretrained=False, drop_path_rate=0.0),
        conv_inplane=32,
        deform_num_heads=4,
        n_points=2,
    ),
    tasks=dict(
        seg=dict(
            data_preprocessor=dict(size=_base_.crop_size),
            decode_head=dict(in_channels=[64] * 4, channels=64, num_classes=seg_num_classes),
            auxiliary_head=dict(in_channels=64, channels=32, num_classes=seg_num_classes),
        ),
        det=dict(
            neck=dict(in_channels=[64] * 4, out_channels=64, num_outs=4),
            rpn_head=dict(
                in_channels=64,
                feat_channels=64,
                anchor_generator=dict(scales=[4], ratios=[0.33, 1.0], strides=[4, 8, 16, 32]),
            ),
            roi_head=dict(
                bbox_roi_extractor=roi_extractor,
                bbox_head=dict(in_channels=64, fc_out_channels=128, num_classes=num_classes),
                mask_roi_extractor=dict(
                    roi_layer=dict(output_size=7, sampling_ratio=2),
                    out_channels=64,
                    finest_scale=28,
                ),
                mask_head=dict(
                    num_convs=2, in_channels=64, conv_out_channels=64, num_classes=num_classes
                ),
            ),
            train_cfg=dict(
                rpn=dict(sampler=dict(num=128)),
                rpn_proposal=dict(nms_pre=300, max_per_img=200),
                rcnn=dict(sampler=dict(num=32), mask_size=14),
            ),
            test_cfg=dict(rpn=dict(nms_pre=300, max_per_img=200), rcnn=dict(max_per_img=50)),
        ),
    ),
)
optim_wrapper = dict(optimizer=dict(lr=1e-3), clip_grad=dict(max_norm=10.0))
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=600, save_best='seg/mIoU'))
