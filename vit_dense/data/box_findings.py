"""Rules on boxes; see `findings`."""

from .findings import NOTE, WARNING, Results, Split, size_text

_TINY = 8  # pixels; half a patch of 16
_MANY = 0.1  # share of tiny objects that gives a warning
_SMALL, _MEDIUM = 32**2, 96**2  # areas that COCO's metric separates


def box_sizes(split: Split) -> list[int]:
    """Return the number of boxes that are small, medium and large for COCO's metric."""
    areas = [one.xywh[2] * one.xywh[3] for one in split.boxes or ()]
    small, medium = (sum(area < limit for area in areas) for limit in (_SMALL, _MEDIUM))
    return [small, medium - small, len(areas) - medium]


def tiny_objects(split: Split) -> Results:
    """Find objects that are tiny at the size at which the model sees them."""
    tiny, boxes = [], [one for one in split.boxes or () if all(split.sizes[one.image])]
    for image, _, (_, _, width, height) in boxes:
        size = split.sizes[image]
        sides = split.scale or size
        factor = min(max(sides) / max(size), min(sides) / min(size))
        side = factor * max(0, width * height) ** 0.5
        if side < _TINY:
            text = f'{size_text((width, height))}, {side:.1f} px at the scale of the pipeline'
            tiny.append((split.images[image].path, text))
    level = WARNING if len(tiny) > _MANY * len(boxes) else NOTE
    advice = 'Such objects are hardly found: enlarge scale in the config, or cut images to tiles.'
    yield level, f'objects are under {_TINY} px for the model', tiny, advice


def without_objects(split: Split) -> Results:
    """Find images without boxes."""
    used = {one.image for one in split.boxes or ()}
    bad = [(one.path, '') for i, one in enumerate(split.images) if used and i not in used]
    advice = 'Label forgotten objects. filter_cfg=dict(filter_empty_gt=True) leaves the images out.'
    yield NOTE, 'images have no object', bad, advice


RULES = (tiny_objects, without_objects)
