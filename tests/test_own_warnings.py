"""What the tests make of warnings: those of this project are errors."""

import warnings

import pytest


@pytest.mark.parametrize(
    'module', ['vit_dense.layers', 'examples.streets.scene', 'benchmarks.backbone', 'test_layers']
)
def test_warnings_of_this_project_are_errors(module: str) -> None:
    with pytest.raises(RuntimeWarning, match='ours'):
        warnings.warn_explicit('ours', RuntimeWarning, 'file.py', 1, module=module)


def test_warnings_of_others_are_not() -> None:
    with pytest.warns(RuntimeWarning, match='theirs'):
        warnings.warn_explicit('theirs', RuntimeWarning, 'file.py', 1, module='timm.layers')
