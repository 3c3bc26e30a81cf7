"""Run a graph with ONNX Runtime or OpenVINO."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .file_description import METADATA_KEY

Arrays = dict[str, NDArray[Any]]


class Engine(Protocol):
    """A graph that is ready to run.

    Attributes:
        metadata: JSON of the `FileDescription`, or None.
    """

    metadata: str | None

    def run(self, inputs: Arrays) -> Arrays:
        """Return the graph's outputs by name."""


class OnnxRuntimeEngine:
    """A graph in ONNX Runtime: on a GPU where the installed package supports it."""

    def __init__(self, path: str) -> None:
        runtime = _require('onnxruntime', 'onnxruntime', path)
        try:
            self._session = runtime.InferenceSession(
                path, providers=runtime.get_available_providers()
            )
        except Exception as error:  # its error classes are not exported as such
            raise ValueError(f'{path}: ONNX Runtime cannot read it: {_line(error)}') from error
        self._outputs = [one.name for one in self._session.get_outputs()]
        self.metadata = self._session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)

    def run(self, inputs: Arrays) -> Arrays:
        """Return the graph's outputs by name."""
        return dict(zip(self._outputs, self._session.run(None, inputs), strict=True))


class OpenVinoEngine:
    """A graph in OpenVINO, on the CPU and in float32, as it was compared when it was written."""

    def __init__(self, path: str) -> None:
        openvino = _require('openvino', 'openvino', path)
        core = openvino.Core()
        try:
            model = core.read_model(path)
        except RuntimeError as error:
            raise ValueError(f'{path}: OpenVINO cannot read it: {_line(error)}') from error
        self.metadata = None
        if model.has_rt_info([METADATA_KEY]):
            self.metadata = model.get_rt_info([METADATA_KEY]).astype(str)
        options = {'INFERENCE_PRECISION_HINT': 'f32', 'PERFORMANCE_HINT': 'LATENCY'}
        self._compiled = core.compile_model(model, 'CPU', options)

    def run(self, inputs: Arrays) -> Arrays:
        """Return the graph's outputs by name."""
        found = self._compiled(inputs)
        return {one.any_name: np.array(found[one]) for one in self._compiled.outputs}


ENGINES: dict[str, Callable[[str], Engine]] = {'.onnx': OnnxRuntimeEngine, '.xml': OpenVinoEngine}


def open_engine(path: str | Path) -> Engine:
    """Open an exported file.

    Raises:
        ValueError: It is missing, of another kind or damaged, or its engine is not installed.
    """
    given = Path(path)
    if given.suffix not in ENGINES:
        raise ValueError(f'{path}: an exported file ends in {" or ".join(ENGINES)}.')
    if not given.is_file():
        raise ValueError(f'{path}: there is no such file.')
    return ENGINES[given.suffix](str(path))


def _require(module: str, package: str, path: str) -> ModuleType:
    from importlib import import_module

    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise ValueError(
            f'{path} needs {package}, which is not installed: pip install {package}'
        ) from error


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
