"""Data without a framework: the embedded demo data set and the checks of a data folder."""

from .coco_format import THING_CLASSES, THING_PALETTE
from .street_canvas import CLASSES, PALETTE
from .street_scene import Scene, draw_scene
from .synthetic import DemoSpec, write_demo_dataset

__all__ = [
    'CLASSES',
    'PALETTE',
    'THING_CLASSES',
    'THING_PALETTE',
    'DemoSpec',
    'Scene',
    'draw_scene',
    'write_demo_dataset',
]
