"""Operators of the adapters, in plain PyTorch."""

from .ms_deform_attn import MSDeformAttn, ms_deform_attn

__all__ = ['MSDeformAttn', 'ms_deform_attn']
