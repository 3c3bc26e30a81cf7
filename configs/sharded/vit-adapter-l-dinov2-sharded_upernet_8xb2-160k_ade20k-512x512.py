"""ViT-Adapter-L on DINOv2 ViT-L/14, sharded: each of eight processes holds an eighth of the model.

torchrun --nproc_per_node=8 tools/train.py CONFIG --launcher pytorch
"""

_base_ = [
    '../vit_adapter/vit-adapter-l-dinov2_upernet_8xb2-160k_ade20k-512x512.py',
    '../_base_/sharded.py',
]
