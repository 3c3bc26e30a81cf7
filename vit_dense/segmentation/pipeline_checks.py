"""Check which pixels a pipeline pairs: its geometry, and the labels of pixels that it adds."""

from collections.abc import Iterator
from typing import Any

from ..engine.load_image import flat_steps
from ..engine.unlabelled import loads_labels

# mmseg returns predictions at the size of the file: it undoes resizing and flips.
_UNDONE = {
    *('Resize', 'RandomResize', 'RandomChoiceResize', 'ResizeShortestEdge', 'ResizeToMultiple'),
    *('RandomFlip', 'SegRescale'),
}
_NOT_UNDONE = {
    *('Pad', 'RandomCrop', 'CenterCrop', 'RandomRotate', 'RandomRotFlip', 'RandomMosaic'),
    *('RandomAffine', 'BioMedical3DPad', 'BioMedical3DRandomCrop', 'BioMedical3DRandomFlip'),
}


def check_geometry(pipeline: Any, split: str) -> None:
    """Check that image and mask, or prediction and mask, cover the same pixels.

    Args:
        pipeline: A built pipeline with the attribute `transforms`.
        split: 'training', 'validation' or 'test'.

    Raises:
        ValueError: A transform changes one of both only; the message names it.
    """
    for number, steps in enumerate(_ways(pipeline)):
        names = [_geometry(step) for step in steps]
        cut = next((name for name in names if name in _NOT_UNDONE), None)
        if split != 'training' and cut:
            raise ValueError(
                f'The {split} pipeline has {cut}: predictions are stretched to the size of the '
                f'file without undoing it. Remove {cut}; if the model needs certain sizes, set '
                'model.data_preprocessor.test_cfg=dict(size_divisor=32), whose padding is cut off.'
            )
        at = next((at for at, step in enumerate(steps) if loads_labels(step)), None)
        if at is None or number > 0:  # views of TestTimeAug are compared with the first's mask
            continue
        loader, is_training = type(steps[at]).__name__, split == 'training'
        wrong = next(filter(None, names[:at] if is_training else names[at:]), None)
        if wrong:
            order, other = ('before', 'after') if is_training else ('after', 'before')
            raise ValueError(
                f'The {split} pipeline has {wrong} {order} {loader}, so that the mask does not fit '
                f'{"the image" if is_training else "predictions, which have the size of the file"}'
                f'. Put {wrong} {other} {loader}.'
            )


def added_labels(pipeline: Any, preprocessor: Any) -> Iterator[tuple[str, int]]:
    """Yield arguments that name the label of added or ignored pixels, and their values."""
    owners = {type(step).__name__: step for step in flat_steps(pipeline)}
    if getattr(preprocessor, 'size', None) or getattr(preprocessor, 'size_divisor', None):
        owners['data_preprocessor'] = preprocessor
    for kind, step in owners.items():
        if isinstance(pad := getattr(step, 'pad_val', None), dict):
            yield f"{kind}.pad_val['seg']", pad.get('seg', 255)
        for name in ('seg_pad_val', 'ignore_index'):
            unused = name == 'ignore_index' and getattr(step, 'cat_max_ratio', 0.0) >= 1
            if (value := getattr(step, name, None)) is not None and not unused:
                yield f'{kind}.{name}', value


def _ways(pipeline: Any) -> Iterator[list[Any]]:
    """Yield the transforms of each way through a pipeline; `TestTimeAug` has several."""
    steps = list(flat_steps(pipeline))
    branches = [branch for step in steps for branch in getattr(step, 'subroutines', ())]
    for branch in branches:
        yield [*steps, *flat_steps(branch)]
    if not branches:
        yield steps


def _geometry(step: Any) -> str | None:
    """Return the name of a transform that moves pixels."""
    names = (kind.__name__ for kind in type(step).__mro__)
    known = next((name for name in names if name in _UNDONE | _NOT_UNDONE), None)
    return None if getattr(step, 'prob', None) == 0 else known
