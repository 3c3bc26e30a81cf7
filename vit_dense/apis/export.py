"""Export a trained model: trace, write beside the target, compare, and only then replace it."""

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from ..engine.wrappers import unwrap
from ..export import (
    FORMATS,
    MAX_LABEL_SHARE,
    MAX_SCORE_ERROR,
    Exportable,
    ExportError,
    Proof,
    compare,
    preprocessing_of,
    wrap,
    write_file,
)
from ..export.graph import trace
from ..export.pictures import drawn_pictures
from ..export.write import require_packages
from ..runtime import load_exported
from ..runtime.file_description import FileDescription, Preprocessing
from ..runtime.images import read_image
from ..runtime.inputs import expand
from ..runtime.preprocessing import prepare_image
from ..version import __version__
from .config import innermost_datasets
from .model import TorchPredictor

Size = tuple[int, int]
_AXES = {2: 'height', 3: 'width'}
_OTHER_SHAPES = (3, 5)  # quarters of the width, to compare a file of any size
_MIN_SIZES = 2
_DEFAULT_EDGE = 512
_WIDEST = 2


@dataclass(frozen=True)
class ExportOptions:
    """How to export.

    Args:
        kind: 'onnx' or 'openvino'.
        size: (height, width) of the graph's input; None takes it from the config or the images.
        dynamic_size: Whether height and width may vary.
        gather_sampling: Whether deformable attention is written as gathers instead of GridSample.
        images: Paths, folders or patterns to compare with; drawn ones if there are none.
    """

    kind: str = 'onnx'
    size: Size | None = None
    dynamic_size: bool = False
    gather_sampling: bool = False
    images: Sequence[str] = ()


def export_model(
    model: TorchPredictor, out: str | Path, options: ExportOptions | None = None
) -> tuple[Proof, FileDescription]:
    """Write an exported file if it predicts what the model predicts.

    Args:
        model: From `load_model`, on the CPU.
        out: The file: .onnx, or .xml for OpenVINO.
        options: How.

    Returns:
        How far the file is from the model, and what the file says about itself.

    Raises:
        ExportError: The model cannot be exported, or the file differs from it. Nothing is written
            then, and an existing file stays.
    """
    options = options or ExportOptions()
    target = Path(out)
    if target.suffix != FORMATS[options.kind]:
        raise ExportError(f'{out}: a file of {options.kind} ends in {FORMATS[options.kind]}.')
    require_packages(options.kind)
    module = unwrap(model.module)
    steps = preprocessing_of(_test_pipeline(model), module)
    channels = len(steps.mean) if steps.mean is not None and len(steps.mean) > 1 else 3
    given = [read_image(str(item.path)) for item in expand(list(options.images))]
    wanted = options.size or _default_size(module, steps, given)
    exportable = wrap(module, None if options.dynamic_size else wanted)
    size = exportable.crop or wanted
    pictures = given or _drawn(size, channels, options)
    if options.dynamic_size:
        _require_sizes(pictures, steps)
    description = FileDescription(
        task=model.task,
        classes=model.classes,
        palette=tuple((int(r), int(g), int(b)) for r, g, b in model.palette),
        size=None if options.dynamic_size else size,
        batch=exportable.batch,
        preprocessing=steps,
        postprocessing=exportable.settings,
        model=exportable.name,
        product_version=__version__,
    )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix='.export-', dir=target.parent) as folder:
            path = Path(folder, target.name)
            _write(exportable, description, path, size, channels, options)
            with (
                _any_size() if options.dynamic_size else contextlib.nullcontext(),
                _padding_to(module, size if model.task == 'detection' else None),
            ):
                proof = compare(model, load_exported(path), pictures)
            _require(proof, description, bool(given))
            for one in sorted(Path(folder).iterdir()):  # the .bin before its .xml
                one.replace(target.parent / one.name)
    except OSError as error:  # such as a full disk
        raise ExportError(f'{out}: it cannot be written: {error.strerror or error}') from error
    return proof, description


def _test_pipeline(model: TorchPredictor) -> list[Any]:
    loader = model.config.get('test_dataloader')
    if loader is None:
        raise ExportError('The config has no test_dataloader, whose pipeline is exported. Add one.')
    return list(next(innermost_datasets(loader.dataset)).pipeline)


def _write(
    exportable: Exportable,
    description: FileDescription,
    path: Path,
    size: Size,
    channels: int,
    options: ExportOptions,
) -> None:
    dynamic = {} if exportable.batch else {0: 'batch'}
    if options.dynamic_size:
        dynamic |= _AXES
    program = trace(
        exportable.module,
        exportable.inputs(size, channels),
        dynamic=dynamic,
        sampling='gather' if options.gather_sampling else 'grid_sample',
    )
    write_file(
        program,
        description,
        path,
        outputs=exportable.outputs,
        sampling='gather' if options.gather_sampling else 'grid_sample',
    )


def _default_size(module: Any, steps: Preprocessing, images: Sequence[NDArray[Any]]) -> Size:
    """Return the size that holds all images, or one of those that the config tests with."""
    if images:
        shapes = [prepare_image(image, steps)[0].shape[1:] for image in images]
        return max(h for h, _ in shapes), max(w for _, w in shapes)
    if steps.pad_size is not None:
        return steps.pad_size
    resize = next((one for one in reversed(steps.resizes) if one.scale is not None), None)
    trained = getattr(module.data_preprocessor, 'size', None)
    if resize is None or resize.scale is None:
        return trained or (_DEFAULT_EDGE, _DEFAULT_EDGE)
    height, width = resize.scale[1], resize.scale[0]
    if resize.keep_ratio:
        height, width = min(resize.scale), max(resize.scale)
        if width > _WIDEST * height:  # 'any width': mmseg's usual (2048, 512)
            height, width = trained or (height, height)
    divisor = steps.pad_divisor
    return -(-height // divisor) * divisor, -(-width // divisor) * divisor


def _drawn(size: Size, channels: int, options: ExportOptions) -> list[NDArray[np.uint8]]:
    """Draw images that have a size of the file after pre-processing."""
    sizes = [size]
    if options.dynamic_size:  # of other shapes, since the test pipeline may fix one edge
        sizes += [(size[0], size[1] * share // 4) for share in _OTHER_SHAPES]
    return [one for edges in sizes for one in drawn_pictures(edges, channels)]


def _require_sizes(pictures: Sequence[NDArray[Any]], steps: Preprocessing) -> None:
    """Raise `ExportError` if a file of any size would be compared at one size only."""
    if len({prepare_image(image, steps)[0].shape for image in pictures}) < _MIN_SIZES:
        raise ExportError(
            '--dynamic-size: all images have one size after the test pipeline, which proves '
            'nothing for others. Give --images of several shapes, or leave --dynamic-size out.'
        )


def _require(proof: Proof, description: FileDescription, has_images: bool) -> None:
    if proof.holds:
        return
    if proof.compared == 0:
        hint = 'these images' if has_images else 'the drawn images; give your own with --images'
        raise ExportError(f'Nothing is written: the model detects nothing in {hint}.')
    raise ExportError(
        f'Nothing is written: {description.model} differs after export. Largest error of a '
        f'probability: {proof.score_error:.2g} (allowed {MAX_SCORE_ERROR:g}); other labels: '
        f'{proof.label_share:.2%} (allowed {MAX_LABEL_SHARE:.1%}).'
    )


@contextlib.contextmanager
def _any_size() -> Iterator[None]:
    """Raise `ExportError` if a file fails at another size than that of the trace."""
    try:
        yield
    except OSError:  # such as a full disk, told by the caller
        raise
    except Exception as error:  # ONNX Runtime raises kinds of its own
        raise ExportError(
            'Nothing is written: this model holds for a fixed size only, and fails at others. '
            'Leave out --dynamic-size, and give --size HEIGHT WIDTH.'
        ) from error


@contextlib.contextmanager
def _padding_to(module: nn.Module, size: Size | None) -> Iterator[None]:
    """Pad the batches of a detector to the size of the exported graph, as mmdet pads batches."""
    if size is None:
        yield
        return
    edges: Size = size

    def pad(preprocessor: Any, _: Any, data: dict[str, Any]) -> dict[str, Any]:
        height, width = data['inputs'].shape[-2:]
        missing = (0, max(0, edges[1] - width), 0, max(0, edges[0] - height))
        data['inputs'] = F.pad(data['inputs'], missing, value=preprocessor.pad_value)
        for sample in data['data_samples']:
            sample.set_metainfo({'batch_input_shape': tuple(data['inputs'].shape[-2:])})
        return data

    preprocessor: Any = module.data_preprocessor
    handle = preprocessor.register_forward_hook(pad)
    try:
        yield
    finally:
        handle.remove()
