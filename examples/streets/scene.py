"""Draw one street scene with its class map and its instance map.

Light, weather, street width, objects and their positions follow from one seed; the same seed gives
the same bytes.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from .canvas import ROAD, SIDEWALK, SKY, TREE, Camera, Canvas, Colour
from .things import draw_car, draw_house, draw_pedestrian, draw_sign, draw_tree, paint

# Drawn larger and downsampled: image edges are anti-aliased, labels stay exact.
_OVERSAMPLING = 3
_FAR = 60.0
_NEAR = 1.2

Label = TypeVar('Label', bound=np.generic)

_SKIES: tuple[tuple[Colour, Colour], ...] = (
    ((96, 140, 196), (190, 208, 224)),
    ((150, 156, 164), (196, 196, 196)),
    ((206, 208, 210), (232, 230, 226)),
    ((120, 110, 140), (226, 172, 130)),
    ((70, 86, 112), (128, 132, 142)),
)
_GROUND: tuple[Colour, ...] = ((96, 96, 100), (130, 128, 126), (112, 104, 98), (156, 154, 150))
# Amplitude of the grain per class, in grey levels: asphalt, leaves and walls are not smooth.
_GRAIN: tuple[float, ...] = (3, 7, 16, 9, 8, 4, 5, 4)


@dataclass(frozen=True)
class Scene:
    """An image and its annotations.

    Attributes:
        image: `(H, W, 3)` uint8, RGB.
        semantic: `(H, W)` uint8, index into `CLASSES`.
        instances: `(H, W)` int32; 0 where no instance is (sky, road, ...), else its number k.
        instance_labels: Class of instance k, at index `k - 1`. A fully hidden instance is listed
            here and has no pixel in `instances`.
    """

    image: NDArray[np.uint8]
    semantic: NDArray[np.uint8]
    instances: NDArray[np.int32]
    instance_labels: tuple[int, ...]


def draw_scene(seed: int | list[int], height: int = 128, width: int = 160) -> Scene:
    """Draw a street.

    Args:
        seed: Seed of the scene, an integer or a list of integers.
        height: Rows in pixels, at least 32.
        width: Columns in pixels, at least 32.

    Raises:
        ValueError: If the picture would be smaller than 32 pixels.
    """
    if min(height, width) < 32:
        raise ValueError(f'A scene needs at least 32x32 pixels, got {height}x{width}.')
    rng = np.random.default_rng(seed)
    upper, lower = _SKIES[int(rng.integers(len(_SKIES)))]
    camera = _place_camera(rng, height * _OVERSAMPLING, width * _OVERSAMPLING, lower)
    canvas = Canvas(camera)
    _draw_sky(canvas, rng, upper, lower)
    _draw_street(canvas, rng)
    image = _light(canvas, rng)
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    small = np.clip(small + rng.normal(0, rng.uniform(2, 6), small.shape), 0, 255)
    return Scene(
        image=np.ascontiguousarray(small.astype(np.uint8)),
        semantic=_thin(canvas.semantic),
        instances=_thin(canvas.instances),
        instance_labels=tuple(canvas.labels),
    )


def _thin(labels: NDArray[Label]) -> NDArray[Label]:
    """Downsample a label map to the image size: the middle pixel of each block is kept."""
    middle = _OVERSAMPLING // 2
    return np.ascontiguousarray(labels[middle::_OVERSAMPLING, middle::_OVERSAMPLING])


def _place_camera(rng: np.random.Generator, height: int, width: int, haze: Colour) -> Camera:
    return Camera(
        width=width,
        height=height,
        focal=width * float(rng.uniform(0.62, 0.85)),
        centre=width * float(rng.uniform(0.35, 0.65)),
        horizon=height * float(rng.uniform(0.38, 0.52)),
        eye=float(rng.uniform(1.5, 2.3)),
        haze=float(rng.uniform(0.004, 0.02)),
        haze_colour=haze,
    )


def _draw_sky(canvas: Canvas, rng: np.random.Generator, upper: Colour, lower: Colour) -> None:
    height, width = canvas.semantic.shape
    ramp = np.clip(np.arange(height) / canvas.camera.horizon, 0, 1)[:, None, None]
    sky = np.asarray(upper) * (1 - ramp) + np.asarray(lower) * ramp
    clouds = np.clip(_soft_noise(rng, height, width, 6) - 0.1, 0, None)[..., None]
    sky = sky + clouds * float(rng.uniform(0, 45))
    canvas.image[:] = np.clip(sky, 0, 255).astype(np.uint8)


def _draw_street(canvas: Canvas, rng: np.random.Generator) -> None:
    """Draw the ground, then everything on it from far to near."""
    half = float(rng.uniform(2.2, 3.6))
    middle = float(rng.uniform(-0.5, 0.5)) * half
    pavement = float(rng.uniform(2.4, 4.0))
    kerbs = (middle - half, middle + half)
    _draw_ground(canvas, rng, kerbs, pavement)

    things = [(float(z), 'car') for z in rng.uniform(4.0, 20, int(rng.integers(1, 7)))]
    things += [(float(z), 'pedestrian') for z in rng.uniform(3.5, 11, int(rng.integers(2, 8)))]
    things += [(float(z), 'sign') for z in rng.uniform(4.0, 10, int(rng.integers(2, 5)))]
    things += [(float(z), 'tree') for z in rng.uniform(6, 40, int(rng.integers(0, 8)))]
    _draw_rows(canvas, rng, (kerbs[0] - pavement, kerbs[1] + pavement))
    for z, kind in sorted(things, reverse=True):
        kerb = kerbs[int(rng.integers(2))]
        outward = 1.0 if kerb > middle else -1.0
        if kind == 'car':
            draw_car(canvas, rng, middle + float(rng.uniform(0.25, 0.7)) * half * outward, z)
        elif kind == 'pedestrian':
            # One in six crosses the road: place alone must not give the class away.
            crossing = rng.random() < 1 / 6
            offset = -float(rng.uniform(0.3, 2.0)) if crossing else float(rng.uniform(0.3, 2.2))
            draw_pedestrian(canvas, rng, kerb + offset * outward, z)
        elif kind == 'sign':
            draw_sign(canvas, rng, kerb + float(rng.uniform(0.2, 0.7)) * outward, z)
        else:
            draw_tree(canvas, rng, kerb + float(rng.uniform(0.5, pavement)) * outward, z)


def _draw_ground(
    canvas: Canvas, rng: np.random.Generator, kerbs: tuple[float, float], pavement: float
) -> None:
    camera = canvas.camera
    stone, asphalt = paint(rng, _GROUND), paint(rng, _GROUND)

    def strip(
        left: float, right: float, near: float, far: float, colour: Colour, label: int | None
    ) -> None:
        corners = ((left, near), (right, near), (right, far), (left, far))
        canvas.polygon([camera.project(x, 0, z) for x, z in corners], colour, label=label)

    strip(-200, 200, _NEAR, 400, stone, SIDEWALK)
    joint: Colour = (0.82 * stone[0], 0.82 * stone[1], 0.82 * stone[2])
    for z in np.geomspace(_NEAR, _FAR, 24):
        strip(-40, 40, float(z), float(z) * 1.012, joint, None)
    strip(*kerbs, _NEAR, 400, asphalt, ROAD)
    edge: Colour = (1.15 * stone[0], 1.15 * stone[1], 1.15 * stone[2])
    strip(kerbs[0] - 0.18, kerbs[0], _NEAR, _FAR, edge, SIDEWALK)
    strip(kerbs[1], kerbs[1] + 0.18, _NEAR, _FAR, edge, SIDEWALK)
    if rng.random() < 0.7:
        line, phase = 0.5 * (kerbs[0] + kerbs[1]), float(rng.uniform(0, 4))
        for z in np.arange(_NEAR + phase, _FAR, 4.0):
            strip(line - 0.08, line + 0.08, float(z), float(z) + 1.8, (214, 212, 204), None)
    if rng.random() < 0.3:
        crossing = float(rng.uniform(4, 10))
        for x in np.arange(kerbs[0] + 0.3, kerbs[1] - 0.5, 1.0):
            strip(float(x), float(x) + 0.5, crossing, crossing + 2.5, (206, 204, 198), None)


def _draw_rows(canvas: Canvas, rng: np.random.Generator, walls: tuple[float, float]) -> None:
    """Draw a row of houses on either side, with gaps, and the end of the street."""
    if rng.random() < 0.5:
        for x in rng.uniform(-30, 30, 16):
            draw_tree(canvas, rng, float(x), _FAR)
    else:
        for x in np.arange(-45, 45, 10.0):
            if rng.random() < 0.6:
                draw_house(canvas, rng, float(x), _FAR, _FAR + 4)
    for wall in walls:
        ends = [float(rng.uniform(2.0, 6.0))]
        while ends[-1] < _FAR:
            ends.append(ends[-1] + float(rng.uniform(5, 13)))
        for near, far in reversed(list(pairwise(ends))):
            if rng.random() < 0.18:
                draw_tree(canvas, rng, wall * 1.25, 0.5 * (near + far))
            else:
                draw_house(canvas, rng, wall * float(rng.uniform(1.0, 1.15)), near, far)


def _light(canvas: Canvas, rng: np.random.Generator) -> NDArray[np.float32]:
    """Add grain per class, a cast shadow, and a change of brightness, tint and gamma."""
    height, width = canvas.semantic.shape
    image = canvas.image.astype(np.float32)
    grain = np.asarray(_GRAIN, np.float32)[canvas.semantic]
    texture = rng.normal(0, 1, (height, width)).astype(np.float32)
    texture = 1.6 * cv2.GaussianBlur(texture, (0, 0), 1.2) + _soft_noise(rng, height, width, 24)
    image += (grain * texture)[..., None]
    if rng.random() < 0.6:
        start, lean, reach = rng.uniform(0, width), rng.uniform(-0.6, 0.6), rng.uniform(0.15, 0.5)
        rows, columns = np.mgrid[:height, :width].astype(np.float32)
        inside = np.abs(columns - start - lean * rows) < reach * width / 2
        inside &= (canvas.semantic != SKY) & (canvas.semantic != TREE)
        shade = cv2.GaussianBlur(inside.astype(np.float32), (0, 0), 2.0)
        image *= 1 - float(rng.uniform(0.25, 0.5)) * shade[..., None]
    tint = rng.normal(1, 0.05, 3).astype(np.float32)
    gain, gamma = float(rng.uniform(0.6, 1.2)), float(rng.uniform(0.8, 1.25))
    lit = 255 * np.clip(gain * tint * image / 255, 0, 1) ** gamma
    return lit.astype(np.float32)


def _soft_noise(
    rng: np.random.Generator, height: int, width: int, cells: int
) -> NDArray[np.float32]:
    """Return smooth noise with about `cells` blobs along the width."""
    rows = max(2, cells * height // width)
    coarse = rng.normal(0, 1, (rows, cells)).astype(np.float32)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return smooth.astype(np.float32)
