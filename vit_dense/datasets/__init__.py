"""Data without a framework: the embedded demo data set and the checks of a data folder."""

from .street_canvas import CLASSES, PALETTE
from .street_scene import Scene, draw_scene
from .synthetic import DemoSpec, write_demo_dataset

__all__ = ['CLASSES', 'PALETTE', 'DemoSpec', 'Scene', 'draw_scene', 'write_demo_dataset']
