"""What an exported file says about itself: all that is needed to use it without its config.

It is JSON under the key `vit_dense`, in the metadata of an ONNX file or the runtime information
of an OpenVINO file.
"""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

FORMAT_VERSION = 1
METADATA_KEY = 'vit_dense'


@dataclass(frozen=True)
class Resize:
    """The resizing of the test pipeline, as mmcv's `Resize` does it.

    Args:
        scale: (width, height), or None if `factor` is given.
        factor: (width, height) factors.
        keep_ratio: Whether `scale` is the size to fit into, by edge lengths in any order.
    """

    scale: tuple[int, int] | None = None
    factor: tuple[float, float] | None = None
    keep_ratio: bool = False


@dataclass(frozen=True)
class Preprocessing:
    """From a BGR image to the input of the graph.

    Args:
        resizes: Applied one after the other, bilinearly.
        mean, std: Of each channel, in the order of the graph's input; None does not normalise.
        swap_channels: Whether the graph takes RGB.
        pad_size: (height, width) to pad to at the lower right, or None.
        pad_divisor: Edges are padded to multiples of it.
        pad_value: Value of the padding, after normalisation.
    """

    resizes: tuple[Resize, ...] = ()
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    swap_channels: bool = False
    pad_size: tuple[int, int] | None = None
    pad_divisor: int = 1
    pad_value: float = 0.0


@dataclass(frozen=True)
class FileDescription:
    """An exported model.

    Args:
        task: 'segmentation' or 'detection'.
        classes: Names.
        palette: RGB of each class.
        size: (height, width) of the graph's input, or None for any.
        batch: Images per run, or None for any number.
        preprocessing: What is done before the graph.
        postprocessing: What is done after it; see `segmentation` and `detection` of this package.
        model: Names of the parts, for people.
        product_version: Version of vit_dense that wrote the file.
        format_version: Version of this description.
    """

    task: str
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    size: tuple[int, int] | None
    batch: int | None
    preprocessing: Preprocessing
    postprocessing: dict[str, Any]
    model: str = ''
    product_version: str = ''
    format_version: int = field(default=FORMAT_VERSION)

    def to_json(self) -> str:
        """Return this description as the file stores it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | None, path: str) -> 'FileDescription':
        """Read the description of the file `path`.

        Raises:
            ValueError: There is none, or it is of another format version.
        """
        if not text:
            raise ValueError(
                f'{path} was not written by `vit-dense export`: it says neither classes nor '
                'pre-processing. Export it with `vit-dense export CHECKPOINT OUT`.'
            )
        values = json.loads(text)
        version = values.get('format_version')
        if version != FORMAT_VERSION:
            raise ValueError(
                f'{path} has format version {version} (written by vit_dense '
                f'{values.get("product_version", "?")}); this version reads {FORMAT_VERSION}. '
                'Export it again, or install that version of vit_dense.'
            )
        steps = values['preprocessing']
        steps['resizes'] = tuple(Resize(**_tuples(one)) for one in steps['resizes'])
        values['preprocessing'] = Preprocessing(**_tuples(steps))
        values['palette'] = tuple(tuple(colour) for colour in values['palette'])
        return cls(**_tuples(values))


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
