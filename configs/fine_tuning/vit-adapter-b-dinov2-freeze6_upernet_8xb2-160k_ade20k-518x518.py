"""Half of DINOv2 ViT-B/14 is frozen; its other half, adapter and heads have own learning rates.

The embeddings and the first six blocks are frozen. `custom_keys` are parts of parameter names; the
longest matching key applies. 1.2e-4 is the adapter's learning rate.
"""

_base_ = 'vit_dense::vit_adapter/vit-adapter-b-dinov2-frozen_upernet_8xb2-160k_ade20k-518x518.py'

model = dict(backbone=dict(vit=dict(frozen_stages=6, drop_path_rate=0.2)))
optim_wrapper = dict(
    paramwise_cfg=dict(
        layer_decay_rate=0.9,
        custom_keys={
            'backbone.vit.': dict(lr_mult=0.1),
            'decode_head.conv_seg': dict(lr_mult=10.0),
        },
    ),
)
