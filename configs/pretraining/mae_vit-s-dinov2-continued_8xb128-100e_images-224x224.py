"""DINOv2 ViT-S/14 adapted to images of your own by masked autoencoding, at a lower rate."""

_base_ = 'vit_dense::pretraining/mae_vit-b_8xb512-800e_images-224x224.py'

model_name = 'vit_small_patch14_dinov2.lvd142m'
batch_size = 128
max_epochs = 100

model = dict(vit=dict(pretrained=True))
optim_wrapper = dict(optimizer=dict(lr=5e-5))
