"""Operators of the adapters, in plain PyTorch."""

from .ms_deform_attn import MSDeformAttn, ms_deform_attn
from .sampling_grid import SamplingGrid

__all__ = ['MSDeformAttn', 'SamplingGrid', 'ms_deform_attn']
