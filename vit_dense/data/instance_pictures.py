"""Draw instances: boxes, masks and labels over an image."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from .pictures import Colours, Picture

_FONT = cv2.FONT_HERSHEY_SIMPLEX
# Small pictures are enlarged to this height, so that lines and letters do not cover objects.
_MIN_HEIGHT = 256
_TEXT_SCALE = 0.38


def draw_instances(
    image: Picture,
    boxes: NDArray[np.floating],
    labels: Sequence[int],
    palette: Colours,
    *,
    texts: Sequence[str] = (),
    masks: NDArray[np.bool_] | None = None,
    opacity: float = 0.6,
) -> Picture:
    """Draw instances, the last ones first, so that the first are on top.

    Args:
        image: `(H, W, 3)`, RGB.
        boxes: `(N, 4)` corners `x1, y1, x2, y2` in pixels.
        labels: Class index of each instance.
        palette: RGB of each class.
        texts: Text to write at each box; none by default.
        masks: `(N, H, W)`, or None for boxes alone.
        opacity: Share of the colour in a mask, 0..1.

    Returns:
        The picture, enlarged by a whole factor if its height is below 256 pixels.
    """
    factor = max(1, -(-_MIN_HEIGHT // image.shape[0]))
    size = (image.shape[1] * factor, image.shape[0] * factor)
    canvas = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR).astype(np.uint8)
    for index in reversed(range(len(boxes))):
        colour = np.asarray(palette[labels[index]], np.float32)
        if masks is not None:
            inside = (
                cv2.resize(masks[index].astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
            )
            canvas[inside] = (1 - opacity) * canvas[inside] + opacity * colour
    for index in reversed(range(len(boxes))):
        rgb = tuple(int(level) for level in palette[labels[index]])
        x1, y1, x2, y2 = (round(float(edge) * factor) for edge in boxes[index])
        cv2.rectangle(canvas, (x1, y1), (x2, y2), rgb, 1)
        if texts:
            _write_text(canvas, texts[index], x1, y1, rgb)
    return canvas


def _write_text(canvas: Picture, text: str, x: int, y: int, rgb: tuple[int, ...]) -> None:
    (width, height), _ = cv2.getTextSize(text, _FONT, _TEXT_SCALE, 1)
    x = max(0, min(x, canvas.shape[1] - width - 2))
    y = max(y, height + 4)
    cv2.rectangle(canvas, (x, y - height - 4), (x + width + 2, y), rgb, cv2.FILLED)
    is_bright = np.dot(rgb, (0.299, 0.587, 0.114)) > 140
    ink = (0, 0, 0) if is_bright else (255, 255, 255)
    cv2.putText(canvas, text, (x + 1, y - 3), _FONT, _TEXT_SCALE, ink, 1, cv2.LINE_AA)
