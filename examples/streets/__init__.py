"""A small data set of drawn street scenes, for the demos and the tests.

`python -m examples.streets --out data/demo` writes it in the layouts of ADE20K and COCO.
"""

from .canvas import CLASSES, PALETTE
from .coco_format import THING_CLASSES, THING_PALETTE
from .dataset import DemoSpec, write_demo_dataset
from .scene import Scene, draw_scene

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
