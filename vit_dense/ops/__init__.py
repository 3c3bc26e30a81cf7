"""Operators of the adapters, in plain PyTorch."""

from .ms_deform_attn import MSDeformAttn, SamplingGrid, ms_deform_attn

__all__ = ['MSDeformAttn', 'SamplingGrid', 'ms_deform_attn']
