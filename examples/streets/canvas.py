"""Classes, camera and canvas of a drawn street.

A scene is drawn from far to near in ground coordinates (metres: `x` to the right of the camera, `y`
up from the ground, `z` ahead), so that size, overlap and perspective are consistent.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

CLASSES: tuple[str, ...] = (
    'sky',
    'building',
    'tree',
    'road',
    'sidewalk',
    'car',
    'pedestrian',
    'sign',
)
# The colours that street-scene data sets share.
PALETTE: tuple[tuple[int, int, int], ...] = (
    (70, 130, 180),
    (90, 90, 90),
    (107, 142, 35),
    (128, 64, 128),
    (244, 35, 232),
    (0, 0, 142),
    (220, 20, 60),
    (220, 220, 0),
)
SKY, BUILDING, TREE, ROAD, SIDEWALK, CAR, PEDESTRIAN, SIGN = range(len(CLASSES))

Colour = tuple[float, float, float]

# Vertices keep this many fractional bits: shapes a few pixels wide need them.
_SUBPIXEL_BITS = 4


@dataclass(frozen=True)
class Camera:
    """A pinhole camera above the road, looking along it.

    Attributes:
        width: Picture width in pixels.
        height: Picture height in pixels.
        focal: Focal length in pixels.
        centre: Column of the vanishing point in pixels.
        horizon: Row of the vanishing point in pixels.
        eye: Height of the camera above the ground in metres.
        haze: Share of the haze colour that an object takes on per metre of distance.
        haze_colour: RGB in 0..255.
    """

    width: int
    height: int
    focal: float
    centre: float
    horizon: float
    eye: float
    haze: float
    haze_colour: Colour

    def project(self, x: float, y: float, z: float) -> tuple[float, float]:
        """Return the column and row, in pixels, of a point in metres."""
        return self.centre + self.focal * x / z, self.horizon + self.focal * (self.eye - y) / z

    def fade(self, colour: Colour, z: float) -> Colour:
        """Return `colour` as seen through `z` metres of haze."""
        veil = 1.0 - float(np.exp(-self.haze * z))
        red, green, blue = (
            (1 - veil) * own + veil * air for own, air in zip(colour, self.haze_colour, strict=True)
        )
        return red, green, blue


class Canvas:
    """Image, class map and instance map, drawn together.

    Attributes:
        camera: How metres become pixels.
        image: `(H, W, 3)` uint8, RGB.
        semantic: `(H, W)` uint8, index into `CLASSES`.
        instances: `(H, W)` int32, 0 where no instance is, else its number from 1.
        labels: Class index of instance 1, 2, ...
    """

    def __init__(self, camera: Camera) -> None:
        shape = (camera.height, camera.width)
        self.camera = camera
        self.image: NDArray[np.uint8] = np.zeros((*shape, 3), np.uint8)
        self.semantic: NDArray[np.uint8] = np.full(shape, SKY, np.uint8)
        self.instances: NDArray[np.int32] = np.zeros(shape, np.int32)
        self.labels: list[int] = []

    def new_instance(self, label: int) -> int:
        """Return the number of a new instance of class `label`."""
        self.labels.append(label)
        return len(self.labels)

    def polygon(
        self,
        points: list[tuple[float, float]],
        colour: Colour,
        *,
        label: int | None,
        instance: int = 0,
    ) -> None:
        """Fill a polygon.

        Args:
            points: Vertices in pixels.
            colour: RGB in 0..255.
            label: Class index, or None to paint the picture only (windows, shadows, markings).
            instance: Number from `new_instance`; 0 for none.
        """
        # Beyond this the drawing routine's fixed-point numbers would overflow.
        limit = 8.0 * max(self.camera.width, self.camera.height)
        vertices = np.clip(np.asarray(points, np.float64), -limit, limit)
        fixed = np.round(vertices * (1 << _SUBPIXEL_BITS)).astype(np.int32)
        rgb = tuple(float(np.clip(value, 0, 255)) for value in colour)
        cv2.fillPoly(self.image, [fixed], rgb, lineType=cv2.LINE_8, shift=_SUBPIXEL_BITS)
        if label is not None:
            cv2.fillPoly(self.semantic, [fixed], label, lineType=cv2.LINE_8, shift=_SUBPIXEL_BITS)
            cv2.fillPoly(
                self.instances, [fixed], instance, lineType=cv2.LINE_8, shift=_SUBPIXEL_BITS
            )

    def upright(
        self,
        span: tuple[float, float],
        rise: tuple[float, float],
        z: float,
        colour: Colour,
        *,
        label: int | None,
        instance: int = 0,
    ) -> None:
        """Fill a rectangle that faces the camera.

        Args:
            span: Left and right edge in metres.
            rise: Lower and upper edge in metres above the ground.
            z: Distance in metres.
            colour: RGB in 0..255 before haze.
            label: See `polygon`.
            instance: See `polygon`.
        """
        corners = [(span[0], rise[0]), (span[1], rise[0]), (span[1], rise[1]), (span[0], rise[1])]
        self.polygon(
            [self.camera.project(x, y, z) for x, y in corners],
            self.camera.fade(colour, z),
            label=label,
            instance=instance,
        )

    def ellipse(
        self,
        centre: tuple[float, float],
        radii: tuple[float, float],
        z: float,
        colour: Colour,
        *,
        label: int | None,
        instance: int = 0,
    ) -> None:
        """Fill an ellipse that faces the camera; `centre` and `radii` are `(x, y)` in metres."""
        turns = np.linspace(0, 2 * np.pi, 16, endpoint=False)
        outline = [
            self.camera.project(
                centre[0] + radii[0] * float(np.cos(turn)),
                centre[1] + radii[1] * float(np.sin(turn)),
                z,
            )
            for turn in turns
        ]
        self.polygon(outline, self.camera.fade(colour, z), label=label, instance=instance)
