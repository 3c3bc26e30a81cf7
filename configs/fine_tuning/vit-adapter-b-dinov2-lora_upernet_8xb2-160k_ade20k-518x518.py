"""LoRA: updates of rank 8 to DINOv2 ViT-B/14 are trained, with the adapter and the heads.

    pip install -e '.[peft]'

`tools/merge_lora.py` adds the updates to the weights after training.
"""

_base_ = 'vit_dense::vit_adapter/vit-adapter-b-dinov2-frozen_upernet_8xb2-160k_ade20k-518x518.py'

model = dict(
    backbone=dict(
        # frozen_stages: blocks without correction
        vit=dict(type='LoRATimmViT', frozen_stages=0, rank=8, alpha=16.0, dropout=0.0),
    ),
)
