"""What the files of a pretraining say about it, beside the weights."""

from collections.abc import Mapping
from typing import Any

SECTION = 'pretraining'  # of `meta` in a checkpoint; in the metadata of .safetensors, as JSON
# Arguments of timm's models that change what they compute, and no shape.
_INVISIBLE = ('num_heads', 'act_layer', 'norm_layer')


def check_record(
    record: Mapping[str, Any], model_name: str, model_kwargs: Mapping[str, Any], place: str
) -> None:
    """Raise `ValueError` if a file was pretrained as another model than the one that it is for.

    Names may differ in the tag of timm's weights, behind the dot. An empty record fits any model.
    """
    if not record:
        return
    name, kwargs = record['model_name'], record['model_kwargs']
    other = [x for x in _INVISIBLE if kwargs.get(x) != model_kwargs.get(x)]
    if other or name.partition('.')[0] != model_name.partition('.')[0]:
        raise ValueError(
            f'{place} was pretrained as model_name={name!r} with model_kwargs={kwargs}, and the '
            f'model is {model_name!r} with {dict(model_kwargs)}. Set the former in vit.'
        )
