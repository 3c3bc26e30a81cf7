"""`LoadImageFromFile` that names files that it cannot load as the model would need them."""

from collections.abc import Iterator
from typing import Any

import cv2
import mmcv
import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine.fileio import get as read_bytes
from mmengine.registry import TRANSFORMS
from numpy.typing import NDArray

from ..data.image_files import BadFileError, describe_damage

# OpenCV divides 16 bits by 256. Of 14 bits and less, that leaves at most 64.
_DARK = 64


@TRANSFORMS.register_module()
class LoadCheckedImage(LoadImageFromFile):
    """Load an image as mmcv's `LoadImageFromFile` does; with the same arguments.

    The checked data sets put it in the place of that transform.

    Raises:
        BadFileError: The file is missing, empty, a web page, cut off or damaged.
        ValueError: 16-bit values would become (almost) black, or the type is not loaded at all.
    """

    def transform(self, results: dict) -> dict | None:
        """Load `results['img_path']` into 'img', 'img_shape' and 'ori_shape'."""
        if self.ignore_empty or self.file_client_args is not None:
            return super().transform(results)
        path = results['img_path']
        content = read_content(path, self.backend_args)
        try:
            image = mmcv.imfrombytes(content, self.color_type, backend=self.imdecode_backend)
        except (OSError, SyntaxError, cv2.error):
            image = None
        if image is None or (image.dtype == np.uint8 and int(image.max()) <= _DARK):
            self._explain(image, content, path)
        results['img'] = image.astype(np.float32) if self.to_float32 else image
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results

    def _explain(self, image: NDArray[Any] | None, content: bytes, path: str) -> None:
        """Raise an error if nothing was decoded, or if the file holds more than `image` has."""
        plain = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
        if plain is None and image is None:
            raise BadFileError(
                f'{path}: OpenCV cannot read it: it is damaged or of an unknown format (TIFF files '
                'of several bands need LoadBands)'
            )
        if plain is not None and plain.dtype != np.uint8 and (image is None or plain.any()):
            raise ValueError(
                f'{path} has values of type {plain.dtype} up to {plain.max()}, of which '
                f'LoadImageFromFile(color_type={self.color_type!r}) '
                f'{"loads none" if image is None else "leaves black"}. Use dict(type='
                "'LoadBands', max_value=...) instead, such as 4095 for 12 bits, 65535 for 16."
            )


def read_content(path: str, backend_args: dict | None) -> bytes:
    """Read a file from the disk or from remote storage.

    Raises:
        BadFileError: It is missing, empty, a web page or cut off.
    """
    try:
        content = bytes(read_bytes(path, backend_args=backend_args))
    except OSError as error:
        if isinstance(error, ValueError):  # of remote storage, with a message for users
            raise
        raise BadFileError(f'{path}: {error.strerror or error}') from error
    if damage := describe_damage(content):
        raise BadFileError(f'{path}: {damage}')
    return content


def color_type_of(dataset: Any) -> str:
    """Return the `color_type` with which a data set of OpenMMLab loads its images."""
    steps = getattr(getattr(dataset, 'pipeline', None), 'transforms', ())
    return next((one.color_type for one in steps if hasattr(one, 'color_type')), 'color')


def use_checked_loading(pipeline: Any) -> Any:
    """Return a pipeline of configs with `LoadCheckedImage`, also inside of `TestTimeAug`."""
    return replace_steps(pipeline, {'LoadImageFromFile': {'type': LoadCheckedImage}})


def replace_steps(pipeline: Any, table: dict[str, dict[str, Any]]) -> Any:
    """Return a pipeline with other transforms, also inside of `TestTimeAug`.

    Args:
        pipeline: Steps of a config: dicts, lists of them, or transforms.
        table: What is changed in the step of OpenMMLab's transform of this name, such as `type`.
    """
    if isinstance(pipeline, list | tuple):
        return [replace_steps(step, table) for step in pipeline]
    if not isinstance(pipeline, dict):
        return pipeline
    step = dict(pipeline)
    if 'transforms' in step:
        step['transforms'] = replace_steps(step['transforms'], table)
    kind: Any = step.get('type', '')
    full = kind if isinstance(kind, str) else f'{kind.__module__}.{kind.__name__}'
    package, _, name = full.rpartition('.')
    is_theirs = package.partition('.')[0] in ('', 'mmcv', 'mmseg', 'mmdet')
    return {**step, **table.get(name, {})} if is_theirs else step


def flat_steps(step: Any) -> Iterator[Any]:
    """Yield the transforms inside a pipeline and its wrappers, such as `RandomApply`."""
    inner = getattr(step, 'transforms', None)
    several = inner if isinstance(inner, list | tuple) else [inner]
    if inner is None or any(isinstance(one, dict) for one in several):  # configs inside of Albu
        yield step
        return
    for one in several:
        yield from flat_steps(one)
