"""The test pipeline of a config, for images without annotations."""

import copy
from typing import Any

from mmengine.config import ConfigDict

Steps = list[ConfigDict]


def without_annotations(steps: Steps) -> Steps:
    """Return a pipeline without the steps that load annotations, also inside `TestTimeAug`."""
    kept = []
    for step in copy.deepcopy(steps):
        if _loads_annotations(step):
            continue
        branches = step.get('transforms')
        if branches is not None and branches and isinstance(branches[0], list):
            remaining = [without_annotations(branch) for branch in branches]
            step['transforms'] = [branch for branch in remaining if branch]
        kept.append(step)
    return kept


def for_array(steps: Steps, scope: str) -> Steps:
    """Return a pipeline that starts from the array `img` instead of the file `img_path`.

    Raises:
        ValueError: Its first step does not load an image.
    """
    loader = steps[0] if steps else ConfigDict()
    if 'LoadImage' not in _name(loader) and 'Load' not in _name(loader):
        raise ValueError(
            f'The test pipeline begins with {_name(loader) or "nothing"} instead of a loader of '
            'images, so arrays cannot take its place: give paths.'
        )
    kind = f'{scope}.LoadImageFromNDArray'
    options = {'to_float32': True} if loader.get('to_float32') else {}
    return [ConfigDict(type=kind, **options), *steps[1:]]


def loads_plain_colour(steps: Steps) -> bool:
    """Return whether the first step reads three channels as OpenCV does by default."""
    if not steps or _name(steps[0]) != 'LoadImageFromFile':
        return False
    backend = steps[0].get('imdecode_backend', 'cv2')
    return steps[0].get('color_type', 'color') == 'color' and backend == 'cv2'


def _loads_annotations(step: ConfigDict) -> bool:
    name = _name(step)
    return name.startswith('Load') and 'Annotation' in name


def _name(step: ConfigDict) -> str:
    kind: Any = step.get('type', '')
    return (kind if isinstance(kind, str) else kind.__name__).rpartition('.')[-1]
