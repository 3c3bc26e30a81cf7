"""Recognise how a data set lies in its folder: images, labels, splits, classes, encodings."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..annotations import read_boxes
from ..pairs import IMAGE_SUFFIXES, list_files, stem_of
from .encodings import Encoding, find_classes, find_encoding, read_classes
from .folders import Group, find_pairs, groups
from .splits import Split, box_splits, complete_splits, to_splits

__all__ = ['TASKS', 'Layout', 'Split', 'recognise']

TASKS = ('segmentation', 'detection')
_OUTLINE = 8  # numbers of a polygon that is no more than its box
_MASK_SHARE = 0.1  # of the objects have another outline, if masks were drawn
_UNDERSTOOD = (
    'Understood are folders such as images and masks (below or above train and val), images and '
    'masks in one folder told apart by their endings, COCO JSON, VOC XML, YOLO and labelme.'
)


@dataclass
class Layout:
    """What was found below a folder."""

    root: str  # absolute; paths of splits are relative to it
    task: str  # 'segmentation' or 'detection'
    splits: dict[str, Split]  # 'train', 'val' and perhaps 'test'
    division: str  # where the splits come from
    encoding: Encoding = field(default_factory=Encoding)
    has_masks: bool = False  # whether the objects have masks (detection)
    # What could not be found out, and the option that decides it.
    undecided: list[tuple[str, str]] = field(default_factory=list)

    def paths(self, split: str) -> list[str]:
        """Return the images of a split."""
        one = self.splits[split]
        return [os.path.join(self.root, one.images, name) for name in one.names]

    def pairs(self, split: str) -> list[tuple[str, str]]:
        """Return images and masks of a split."""
        one = self.splits[split]
        folder = os.path.join(self.root, str(one.labels))
        stems = [stem_of(name, one.img_suffix) for name in one.names]
        masks = [os.path.join(folder, f'{stem}{one.suffix}') for stem in stems]
        return list(zip(self.paths(split), masks, strict=True))


def recognise(
    root: str, *, task: str | None = None, images: str = '', labels: str = '', classes: str = ''
) -> Layout:
    """Look at a folder.

    Args:
        root: The folder.
        task: 'segmentation' or 'detection'; None takes the one with more labelled images.
        images: The folder of images below `root`; '' to find it.
        labels: A folder, or file, of masks or boxes; `FOLDER/*END` chooses by ending; '' to find.
        classes: Names with commas between them, or a file of names.

    Raises:
        ValueError: It is no folder with labelled images, or two readings are equally good.
    """
    root = os.path.abspath(root)
    if not os.path.isdir(root):
        raise ValueError(f'{root} is no folder. Name (unpack) the one of the images and labels.')
    files = sorted(one.replace(os.sep, '/') for one in list_files(root))
    endings, role = IMAGE_SUFFIXES | {'.npy'}, 'labels' if labels else ''
    pictures = groups(_below(files, images, root), endings, 'images' if images else '')
    chosen = _below(files, labels, root)
    if not pictures:
        raise ValueError(f'{root} has no images. {_UNDERSTOOD}')
    found, problems = {}, list[ValueError]()
    for name in [task] if task else TASKS:
        try:
            if name == TASKS[0]:
                found[name] = to_splits(find_pairs(pictures, groups(chosen, endings, role)))
            else:
                found[name] = box_splits(root, chosen, pictures, role)
        except ValueError as error:
            problems.append(error)
    counts = {name: sum(len(one.names) for one in found[name].values()) for name in found}
    best = max(counts, key=lambda name: counts[name], default='')
    if not counts.get(best):
        raise problems[0] if problems else ValueError(_unlabelled(root, pictures, chosen))
    layout = Layout(root, best, *complete_splits(root, files, found[best]))
    named, source = (read_classes(classes), '') if classes else find_classes(root, files)
    if best == TASKS[0]:
        masks = [mask for split in layout.splits for _, mask in layout.pairs(split)]
        layout.encoding = find_encoding(masks, named, source)
    else:
        _read_objects(layout, [one.name for one in named] if classes else [])
    others = [one for one in counts if one != best and counts[one]]
    layout.undecided = layout.encoding.undecided + [
        (f'{counts[one]} images have labels for {one}, too', f'--task {one}') for one in others
    ]
    return layout


def _read_objects(layout: Layout, names: Sequence[str]) -> None:
    """Find the classes of boxes, and whether the objects have masks."""
    train = layout.splits['train']
    labels = [train.labels] if isinstance(train.labels, str) else train.labels
    content, _ = read_boxes(
        [os.path.join(layout.root, one) for one in labels],
        image_folder=os.path.join(layout.root, train.images),
        classes=names,
    )
    layout.encoding.classes = list(names) or [one['name'] for one in content['categories']]
    masks = [one.get('segmentation') for one in content['annotations']]
    drawn = [one for one in masks if one and (len(one) != 1 or len(one[0]) > _OUTLINE)]
    layout.has_masks = all(masks) and len(drawn) > _MASK_SHARE * len(masks)


def _below(files: Sequence[str], given: str, root: str) -> list[str]:
    """Return the files that an option names, as FILE, FOLDER or FOLDER/*END; all without it."""
    start, _, end = given.replace(os.sep, '/').partition('*')
    start = os.path.relpath(os.path.join(root, start), root)
    inside = (one for one in files if start in ('.', one) or one.startswith(f'{start}/'))
    found = [one for one in inside if one.endswith(end)]
    if given and not found:
        raise ValueError(f'There are no files {given} below {root}: name a folder as it is there.')
    return found


def _unlabelled(root: str, pictures: Sequence[Group], files: Sequence[str]) -> str:
    first = next((one for one in pictures if one.role != 'labels'), pictures[0])
    own = {os.path.join(first.folder, one) for one in first.files}
    others = [one for one in files if one not in own][-1:]
    return (
        f'{root}: {first.folder or "it"} has images without labels: nothing belongs to '
        f'{first.files[0]}; other files are {others}. {_UNDERSTOOD} Name other folders with '
        '--images, --masks or --boxes.'
    )
