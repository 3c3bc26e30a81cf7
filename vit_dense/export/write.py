"""Write a traced graph as an ONNX or an OpenVINO file."""

import logging
import warnings
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch.export import ExportedProgram

from ..runtime.file_description import METADATA_KEY, FileDescription
from .graph import ExportError

FORMATS = {'onnx': '.onnx', 'openvino': '.xml'}
_PACKAGES = {'onnx': ('onnx', 'onnxscript', 'onnxruntime'), 'openvino': ('openvino',)}
# Engines without them are common, or their results depend on the engine.
_CONTROL_FLOW = ('If', 'Loop', 'Scan')
_MAX_BYTES = 2 * 1024**3 - 64 * 1024**2  # of one protobuf message, and room for the graph


def require_packages(kind: str) -> None:
    """Raise `ExportError` if what a format needs is not installed."""
    for package in (*_PACKAGES['onnx'], *_PACKAGES[kind]):
        _import(package)


def write_file(
    program: ExportedProgram,
    description: FileDescription,
    path: Path,
    *,
    outputs: tuple[str, ...],
    sampling: str,
) -> None:
    """Write `path`, an .onnx file, or an .xml file with its .bin.

    Args:
        program: From `graph.trace`.
        description: Goes into the metadata.
        path: Its suffix decides on the format.
        outputs: Names of the graph's outputs.
        sampling: 'gather' if GridSample must not occur.

    Raises:
        ExportError: The graph cannot be written, or has operators that it must not have.
    """
    size = sum(x.numel() * x.element_size() for x in program.state_dict.values())
    if size > _MAX_BYTES:
        raise ExportError(
            f'The weights have {size / 1024**3:.1f} GiB; one ONNX file holds 2 GiB. Export a '
            'smaller model.'
        )
    model = _to_onnx(program, outputs)
    _check_operators(model, sampling)
    model.metadata_props[METADATA_KEY] = description.to_json()
    for node in model.graph:  # names of the source files that the graph was traced from
        node.metadata_props.clear()
    ir = _import('onnx_ir')
    if path.suffix == FORMATS['onnx']:
        ir.save(model, path)
        return
    target = path.with_suffix('.onnx')
    ir.save(model, target)
    try:
        onnx_to_openvino(target, path, description)
    finally:
        target.unlink()


def _to_onnx(program: ExportedProgram, outputs: tuple[str, ...]) -> Any:
    _import('onnxscript')
    logger = logging.getLogger('torch.onnx')
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            onnx_program: Any = torch.onnx.export(
                program, (), dynamo=True, output_names=list(outputs), verbose=False
            )
    except torch.onnx.OnnxExporterError as error:
        lines = [line for line in str(error).splitlines() if line.startswith('<class')]
        reason = lines[0] if lines else type(error).__name__
        raise ExportError(f'PyTorch cannot write this model as ONNX: {reason}') from error
    finally:
        logger.setLevel(level)
    return onnx_program.model


def _check_operators(model: Any, sampling: str) -> None:
    found = {node.op_type for node in model.graph}
    if flow := sorted(found & set(_CONTROL_FLOW)):
        raise ExportError(
            f'The graph has {", ".join(flow)} nodes, which TensorRT and others cannot run: the '
            'model decides on values while it runs. Export it with a fixed --size.'
        )
    if sampling == 'gather' and 'GridSample' in found:
        raise ExportError(
            '--gather-sampling: a part outside of vit_dense still samples with GridSample. Leave '
            'the option out.'
        )


def onnx_to_openvino(source: Path, target: Path, description: FileDescription) -> None:
    openvino = _import('openvino')
    model = openvino.convert_model(source)
    model.set_rt_info(description.to_json(), [METADATA_KEY])
    openvino.save_model(model, target, compress_to_fp16=False)


def _import(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise ExportError(
            f'{name} is not installed, which export needs: pip install "vit_dense[export]"'
        ) from error
