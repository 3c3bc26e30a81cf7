"""COCO128's photographs: a ViT-Adapter-S segments 133 classes and finds 80 kinds of objects.

    python tools/train.py FILE --cfg-options data_root=data/coco128/

For images of your own with masks and boxes, inherit it and set the variables below.
"""

_base_ = [
    'vit_dense::_base_/models/upernet_mask_rcnn_vit_adapter.py',
    'vit_dense::_base_/datasets/masks_and_boxes.py',
    'vit_dense::_base_/schedules/adamw_8k.py',
    'vit_dense::_base_/multitask_runtime.py',
]

data_root = 'data/coco128/'
# The things, then the stuff.
# fmt: off
seg_classes = (
    'person', 'bicycle', 'car', 'motorcycle', 'airplane', 'bus', 'train', 'truck', 'boat',
    'traffic light', 'fire hydrant', 'stop sign', 'parking meter', 'bench', 'bird', 'cat', 'dog',
    'horse', 'sheep', 'cow', 'elephant', 'bear', 'zebra', 'giraffe', 'backpack', 'umbrella',
    'handbag', 'tie', 'suitcase', 'frisbee', 'skis', 'snowboard', 'sports ball', 'kite',
    'baseball bat', 'baseball glove', 'skateboard', 'surfboard', 'tennis racket', 'bottle',
    'wine glass', 'cup', 'fork', 'knife', 'spoon', 'bowl', 'banana', 'apple', 'sandwich', 'orange',
    'broccoli', 'carrot', 'hot dog', 'pizza', 'donut', 'cake', 'chair', 'couch', 'potted plant',
    'bed', 'dining table', 'toilet', 'tv', 'laptop', 'mouse', 'remote', 'keyboard', 'cell phone',
    'microwave', 'oven', 'toaster', 'sink', 'refrigerator', 'book', 'clock', 'vase', 'scissors',
    'teddy bear', 'hair drier', 'toothbrush', 'banner', 'blanket', 'bridge', 'cardboard', 'counter',
    'curtain', 'door-stuff', 'floor-wood', 'flower', 'fruit', 'gravel', 'house', 'light',
    'mirror-stuff', 'net', 'pillow', 'platform', 'playingfield', 'railroad', 'river', 'road',
    'roof', 'sand', 'sea', 'shelf', 'snow', 'stairs', 'tent', 'towel', 'wall-brick', 'wall-stone',
    'wall-tile', 'wall-wood', 'water-other', 'window-blind', 'window-other', 'tree-merged',
    'fence-merged', 'ceiling-merged', 'sky-other-merged', 'cabinet-merged', 'table-merged',
    'floor-other-merged', 'pavement-merged', 'mountain-merged', 'grass-merged', 'dirt-merged',
    'paper-merged', 'food-other-merged', 'building-other-merged', 'rock-merged',
    'wall-other-merged', 'rug-merged',
)
# fmt: on
det_classes = seg_classes[:80]
crop_size = (320, 320)
num_workers = 2

model = dict(
    backbone=dict(
        vit=dict(model_name='vit_small_patch16_224.augreg_in21k_ft_in1k', drop_path_rate=0.1),
        deform_num_heads=6,
    ),
    tasks=dict(
        seg=dict(
            data_preprocessor=dict(size=crop_size),
            decode_head=dict(in_channels=[384] * 4, channels=128, num_classes=len(seg_classes)),
            auxiliary_head=dict(in_channels=384, channels=64, num_classes=len(seg_classes)),
        ),
        det=dict(
            neck=dict(in_channels=[384] * 4),
            roi_head=dict(bbox_head=dict(fc_out_channels=512)),
        ),
    ),
)
default_hooks = dict(checkpoint=dict(interval=800, save_best='seg/mIoU'))
