"""Read and write videos with OpenCV, frame by frame."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..data.pictures import Picture

VIDEO_SUFFIXES = frozenset(('.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg'))
_CODEC = 'mp4v'  # MPEG-4, which every build of OpenCV writes
_USUAL_RATE = 25.0


class VideoReader:
    """The frames of a video, `(H, W, 3)` uint8 BGR.

    Args:
        path: A file that OpenCV can read.

    Raises:
        ValueError: It cannot be opened or has no frame.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        if not os.path.isfile(self.path):
            raise ValueError(f'{path}: No such file or directory')
        capture = cv2.VideoCapture(self.path)
        has_frame, frame = capture.read() if capture.isOpened() else (False, None)
        # A container states a number, which is an estimate.
        self.expected = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        self.rate = float(capture.get(cv2.CAP_PROP_FPS)) or _USUAL_RATE
        capture.release()
        if not has_frame or frame is None:
            raise ValueError(f'{path}: a video without frames, or of a codec OpenCV cannot read')
        self.size = frame.shape[:2]

    def __iter__(self) -> Iterator[NDArray[Any]]:
        capture = cv2.VideoCapture(self.path)
        try:
            while True:
                has_frame, frame = capture.read()
                if not has_frame:
                    return
                yield frame
        finally:
            capture.release()


class VideoWriter:
    """Write RGB pictures as an .mp4 file, which takes its name when it is complete.

    Args:
        path: The file to write.
        rate: Frames per second.

    Raises:
        ValueError: OpenCV cannot write it.
    """

    def __init__(self, path: str | Path, rate: float) -> None:
        self.path = Path(path)
        self.rate = rate
        self._part = self.path.with_name(f'.{self.path.stem}.part{self.path.suffix}')
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._frames = 0

    def __enter__(self) -> 'VideoWriter':
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return self

    def write(self, picture: Picture) -> None:
        """Add a frame, `(H, W, 3)` uint8 RGB, of the size of the first one."""
        if self._writer is None:
            # The codec stores colour at half the resolution: an odd edge loses its last pixel.
            self._size = (picture.shape[1] // 2 * 2, picture.shape[0] // 2 * 2)
            code = cv2.VideoWriter.fourcc(*_CODEC)
            self._writer = cv2.VideoWriter(str(self._part), code, self.rate, self._size)
            if not self._writer.isOpened():
                raise ValueError(f'{self.path}: OpenCV cannot write this video')
        self._frames += 1
        frame = picture[: self._size[1], : self._size[0]]
        self._writer.write(cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2BGR))

    def __exit__(self, kind: object, *_: object) -> None:
        if self._writer is not None:
            self._writer.release()
        try:
            if kind is None and self._writer is not None:
                # OpenCV reports no error when it writes.
                if _count_frames(self._part) != self._frames:
                    raise OSError(f'{self.path}: the video could not be written whole')
                os.replace(self._part, self.path)
        finally:
            self._part.unlink(missing_ok=True)


def _count_frames(path: Path) -> int:
    capture = cv2.VideoCapture(str(path))
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
    capture.release()
    return count
