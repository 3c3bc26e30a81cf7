"""Look inside a model: its features, its attention, and what its predictions depend on.

Works on the attributes that OpenMMLab's models share, without mmseg or mmdet.
"""

from .attention import Recording, record, rollout
from .features import principal_colours, to_image
from .relevance import Relevance, explain

__all__ = [
    'Recording',
    'Relevance',
    'explain',
    'principal_colours',
    'record',
    'rollout',
    'to_image',
]
