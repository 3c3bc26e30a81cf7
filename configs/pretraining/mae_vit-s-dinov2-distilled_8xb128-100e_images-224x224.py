"""As `continued`, and the decoder predicts the features of a frozen DINOv2 ViT-L/14, too."""

_base_ = 'vit_dense::pretraining/mae_vit-s-dinov2-continued_8xb128-100e_images-224x224.py'

model = dict(
    teacher=dict(type='TimmViT', model_name='vit_large_patch14_dinov2.lvd142m', pretrained=True),
    loss_weights=dict(pixels=1.0, features=1.0),
)
