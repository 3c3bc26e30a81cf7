"""Export trained models to ONNX and OpenVINO files that hold only if they are proved equal.

`wrap` makes a module of tensors alone, `graph` traces it, `onnx` and `openvino` write files,
`proof` compares what a file predicts with the model before export.
"""

from .exportable import Exportable
from .graph import ExportError
from .pipeline import preprocessing_of
from .proof import MAX_LABEL_SHARE, MAX_SCORE_ERROR, Proof, compare
from .wrap import wrap
from .write import FORMATS, write_file

__all__ = [
    'FORMATS',
    'MAX_LABEL_SHARE',
    'MAX_SCORE_ERROR',
    'ExportError',
    'Exportable',
    'Proof',
    'compare',
    'preprocessing_of',
    'wrap',
    'write_file',
]
