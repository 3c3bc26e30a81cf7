"""ViT-S from random weights on images without labels; variables as of ViT-B."""

_base_ = 'vit_dense::pretraining/mae_vit-b_8xb512-800e_images-224x224.py'

model_name = 'vit_small_patch16_224.augreg_in21k_ft_in1k'
mean = [127.5, 127.5, 127.5]
std = [127.5, 127.5, 127.5]
