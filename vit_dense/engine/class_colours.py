"""Class names and colours of a data set, also where it has no palette."""

from mmengine.dataset import BaseDataset
from torch.utils.data import DataLoader

from ..data.pictures import complete_palette
from .wrappers import iter_datasets


def class_colours(loader: DataLoader) -> tuple[list[str], list[list[int]]]:
    """Return name and RGB colour of each class of the data set of `loader`."""
    dataset = next(iter_datasets(loader.dataset))
    assert isinstance(dataset, BaseDataset)
    classes = list(dataset.metainfo.get('classes') or ())
    return classes, complete_palette(dataset.metainfo.get('palette'), len(classes))
