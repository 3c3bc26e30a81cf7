"""Objects of a drawn street: houses, trees, cars, people, signs.

Their colours overlap on purpose (grey cars on grey roads, green houses, blue windows and blue
coats under a blue sky): the class of a pixel follows from shape and place, not from its colour.
"""

import numpy as np

from .canvas import BUILDING, CAR, PEDESTRIAN, SIGN, TREE, Canvas, Colour

# Colours of walls, cars and clothes.
_PAINTS: tuple[Colour, ...] = (
    (150, 150, 150),
    (95, 98, 104),
    (205, 203, 196),
    (40, 42, 48),
    (168, 92, 72),
    (188, 164, 122),
    (112, 138, 168),
    (98, 124, 84),
    (178, 52, 48),
    (64, 84, 140),
)
_LEAVES: tuple[Colour, ...] = ((74, 108, 52), (98, 124, 62), (52, 82, 58), (150, 112, 52))
_BARK: Colour = (92, 76, 62)
_GLASS: tuple[Colour, ...] = ((62, 74, 92), (150, 176, 204), (44, 46, 50), (196, 186, 150))
_SKIN: tuple[Colour, ...] = ((214, 172, 142), (150, 108, 82), (96, 68, 52))
_POST: tuple[Colour, ...] = ((120, 122, 124), (70, 74, 76), (168, 168, 166))


def paint(rng: np.random.Generator, choices: tuple[Colour, ...] = _PAINTS) -> Colour:
    """Return one of `choices`, lighter or darker and slightly tinted."""
    base = np.asarray(choices[int(rng.integers(len(choices)))])
    mixed = base * rng.uniform(0.75, 1.25) + rng.normal(0, 8, 3)
    red, green, blue = (float(value) for value in np.clip(mixed, 0, 255))
    return red, green, blue


def draw_house(
    canvas: Canvas, rng: np.random.Generator, wall: float, near: float, far: float
) -> None:
    """Draw one house: its face along the street, its gable towards the camera, its windows.

    Args:
        canvas: Where to draw.
        rng: The scene's random numbers.
        wall: Where the face stands, metres to the right of the camera (negative: left).
        near: Distance of its near end in metres.
        far: Distance of its far end in metres.
    """
    camera = canvas.camera
    height = float(rng.uniform(5, 15))
    colour = paint(rng)
    depth = 9.0 if wall > 0 else -9.0
    gable: Colour = (0.8 * colour[0], 0.8 * colour[1], 0.8 * colour[2])
    canvas.upright((wall, wall + depth), (0, height), near, gable, label=BUILDING)

    def on_face(z: float, y: float) -> tuple[float, float]:
        return camera.project(wall, y, z)

    corners = [on_face(near, 0), on_face(far, 0), on_face(far, height), on_face(near, height)]
    middle = 0.5 * (near + far)
    canvas.polygon(corners, camera.fade(colour, middle), label=BUILDING)

    floors = max(1, int(height / 3))
    columns = max(1, int((far - near) / 2.5))
    pane = paint(rng, _GLASS)
    step = (far - near) / columns
    for column in range(columns):
        start, stop = near + step * (column + 0.3), near + step * (column + 0.75)
        for floor in range(floors):
            low, high = floor * 3 + 0.9, floor * 3 + 2.3
            lit = float(rng.uniform(0.7, 1.3))
            shade: Colour = (pane[0] * lit, pane[1] * lit, pane[2] * lit)
            quad = [on_face(start, low), on_face(stop, low), on_face(stop, high)]
            quad.append(on_face(start, high))
            canvas.polygon(quad, camera.fade(shade, start), label=None)


def draw_tree(canvas: Canvas, rng: np.random.Generator, x: float, z: float) -> None:
    """Draw a trunk and a crown of overlapping leaves, its foot at `(x, z)` metres."""
    instance = canvas.new_instance(TREE)
    height = float(rng.uniform(4, 7.5))
    crown = float(rng.uniform(1.0, 1.9))
    trunk = float(rng.uniform(0.12, 0.2))
    leaf = paint(rng, _LEAVES)
    canvas.upright(
        (x - trunk, x + trunk), (0, height - crown), z, _BARK, label=TREE, instance=instance
    )
    for _ in range(14):
        turn, reach = rng.uniform(0, 2 * np.pi), crown * np.sqrt(rng.uniform(0, 0.7))
        centre = (x + reach * float(np.cos(turn)), height - crown + reach * float(np.sin(turn)))
        light = float(rng.uniform(0.7, 1.25))
        radius = crown * float(rng.uniform(0.3, 0.55))
        canvas.ellipse(
            centre,
            (radius, radius),
            z,
            (leaf[0] * light, leaf[1] * light, leaf[2] * light),
            label=TREE,
            instance=instance,
        )


def draw_car(canvas: Canvas, rng: np.random.Generator, x: float, z: float) -> None:
    """Draw a car seen from behind or from the front, its near end at `(x, z)` metres."""
    instance = canvas.new_instance(CAR)
    half, body, roof = rng.uniform(0.8, 1.0), rng.uniform(0.85, 1.0), rng.uniform(1.4, 1.75)
    left, right = x - float(half), x + float(half)
    colour = paint(rng)
    dark: Colour = (0.55 * colour[0], 0.55 * colour[1], 0.55 * colour[2])
    camera = canvas.camera
    far = z + float(rng.uniform(3.4, 4.4))

    shadow = [camera.project(px, 0, pz) for px, pz in ((left - 0.2, z), (right + 0.2, z))]
    shadow += [camera.project(px, 0, pz) for px, pz in ((right + 0.2, far), (left - 0.2, far))]
    canvas.polygon(shadow, camera.fade((38, 38, 42), z), label=None)
    # The flank that faces the camera: the one nearer to the vanishing point.
    flank = left if x > 0 else right
    side = [camera.project(flank, y, pz) for y, pz in ((0.3, z), (0.3, far), (body, far))]
    side.append(camera.project(flank, float(body), z))
    canvas.polygon(side, camera.fade(dark, z), label=CAR, instance=instance)

    def rear(span: tuple[float, float], rise: tuple[float, float], tone: Colour) -> None:
        canvas.upright(span, rise, z, tone, label=CAR, instance=instance)

    for wheel in (left + 0.05, right - 0.3):
        rear((wheel, wheel + 0.25), (0, 0.45), (24, 24, 26))
    rear((left, right), (0.28, float(body)), colour)
    rear((left + 0.14, right - 0.14), (float(body), float(roof)), colour)
    glass = paint(rng, _GLASS)
    rear((left + 0.25, right - 0.25), (float(body) + 0.05, float(roof) - 0.12), glass)
    lamp: Colour = (190, 40, 36) if rng.random() < 0.6 else (236, 230, 200)
    rear((left + 0.06, left + 0.3), (0.62, 0.8), lamp)
    rear((right - 0.3, right - 0.06), (0.62, 0.8), lamp)


def draw_pedestrian(canvas: Canvas, rng: np.random.Generator, x: float, z: float) -> None:
    """Draw a walking person, the feet at `(x, z)` metres."""
    instance = canvas.new_instance(PEDESTRIAN)
    height = float(rng.uniform(1.45, 1.9))
    coat, trousers = paint(rng), paint(rng)
    stride = float(rng.uniform(0.05, 0.22))
    hip, shoulder = 0.5 * height, 0.84 * height

    def part(span: tuple[float, float], rise: tuple[float, float], tone: Colour) -> None:
        canvas.upright(span, rise, z, tone, label=PEDESTRIAN, instance=instance)

    part((x - 0.1 - stride, x + 0.06 - stride), (0, hip), trousers)
    part((x - 0.06 + stride, x + 0.1 + stride), (0, hip), trousers)
    part((x - 0.3, x + 0.3), (hip - 0.05, shoulder), coat)
    head = (x, 0.92 * height)
    canvas.ellipse(head, (0.16, 0.18), z, paint(rng, _SKIN), label=PEDESTRIAN, instance=instance)


def draw_sign(canvas: Canvas, rng: np.random.Generator, x: float, z: float) -> None:
    """Draw a post with a round or square board, its foot at `(x, z)` metres."""
    instance = canvas.new_instance(SIGN)
    top = float(rng.uniform(2.4, 3.2))
    half = float(rng.uniform(0.45, 0.6))
    post, board, rim = paint(rng, _POST), paint(rng), paint(rng)
    canvas.upright((x - 0.12, x + 0.12), (0, top), z, post, label=SIGN, instance=instance)
    if rng.random() < 0.5:
        canvas.ellipse((x, top), (half, half), z, rim, label=SIGN, instance=instance)
        canvas.ellipse((x, top), (0.7 * half, 0.7 * half), z, board, label=SIGN, instance=instance)
        return
    for share, tone in ((1.0, rim), (0.75, board)):
        reach = share * half
        canvas.upright(
            (x - reach, x + reach),
            (top - reach, top + reach),
            z,
            tone,
            label=SIGN,
            instance=instance,
        )
