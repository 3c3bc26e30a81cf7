"""The comparison with compiled mmcv: differences it finds, and errors without a build."""

import importlib
import sys
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip('mmcv')


@pytest.fixture
def bench(monkeypatch):
    """Import the script; restore mmcv's kernel in our attention, which it disables."""
    attention = importlib.import_module('vit_dense.ops.ms_deform_attn')
    monkeypatch.setattr(attention, 'native_ms_deform_attn', attention.native_ms_deform_attn)
    return importlib.import_module('benchmarks.parity.mmcv_ops')


@pytest.fixture
def print_table(bench, capsys):
    """Return a function that prints the table and returns its cells and the text below."""

    def run(extension, ops, dtypes=('float32',)):
        extension.get_compiler_version = extension.get_compiling_cuda_version = lambda: 'none'
        args = SimpleNamespace(device='cpu', threads=1, runs=1, ops=ops, dtypes=dtypes)
        bench.print_table(args, extension)
        table, _, rest = capsys.readouterr().out.partition('\nCompiled mmcv refuses:\n')
        lines = [line for line in table.splitlines() if line.startswith('|')]
        return [[x.strip() for x in line.strip('|').split('|')] for line in lines[2:]], rest

    return run


def test_an_extension_differs_from_itself_by_nothing(bench, print_table):
    rows, rest = print_table(bench.our_ops(), ['soft_nms, linear', 'roi_align, 0', 'sigmoid'])
    names = ['soft_nms, linear', 'sigmoid_focal_loss', 'roi_align, 0 rois']
    names += ['roi_align, 0 images', 'sigmoid_focal_loss, 0 rows']
    assert [row[0] for row in rows] == names
    for name, dtype, values, gradients, ours, theirs, *times in rows:
        assert dtype == 'float32'
        assert values == 'both empty' if ', 0' in name else values.startswith('0 of ')
        assert gradients == '' if 'nms' in name else gradients.startswith(('0 of ', 'both empty'))
        assert ours == theirs
        assert all(float(x) > 0 for x in times)
    assert rest == ''


def test_wrong_gradients_and_other_boxes_are_seen(bench, print_table):
    other = bench.our_ops()
    right = other.sigmoid_focal_loss_backward

    def wrong(input, target, weight, grad_input, gamma, alpha):
        right(input, target, weight, grad_input, gamma, alpha)
        grad_input[:1, :1] += 0.5

    other.sigmoid_focal_loss_backward = wrong
    other.nms = lambda bboxes, scores, iou_threshold, offset: torch.arange(min(3, len(bboxes)))
    rows, _ = print_table(other, ['nms', 'sigmoid_focal_loss'])
    by_name = {row[0]: row[2:6] for row in rows}
    assert by_name['nms'][0] == 'other shapes'
    values, gradients, ours, theirs = by_name['sigmoid_focal_loss']
    assert values.startswith('0 of')
    assert gradients.startswith('5.0e-01 of')
    assert float(ours) < 1e-5 < float(theirs)


def test_nan_does_not_hide(bench):
    nan, fine = torch.tensor([float('nan'), 1.0]), torch.ones(2)
    assert bench.absolute([fine, nan], [fine, fine]).startswith('nan')
    assert bench.relative(([fine], [nan]), ([fine], [fine])) == 'nan'


def test_refusals_are_quoted_and_the_stand_in_is_shown_alone(bench, print_table):
    other = bench.our_ops()

    def refuse(*args, **kwargs):
        raise RuntimeError('no kernel\nwith a long trace')

    other.roi_pool_forward = refuse
    rows, rest = print_table(other, ['roi_pool, 0'], ['float32', 'float16'])
    assert [row[5] for row in rows] == ['refused', 'refused']
    assert rest.strip() == '- roi_pool in float32, float16: no kernel'


def test_mmcv_keeps_its_extension_after_an_error(bench):
    module = importlib.import_module('mmcv.ops.nms')
    before, other = module.ext_module, SimpleNamespace(nms='other')
    case = SimpleNamespace(call=lambda _: module.ext_module.nms.missing, differentiable=())
    with pytest.raises(AttributeError, match='missing'):  # a string's: it was the other one
        bench.seconds(case, [torch.zeros(1)], other)
    assert module.ext_module is before


@pytest.mark.parametrize('option', [[], ['--compiled', 'nowhere']])
def test_without_a_build_it_says_how_to_get_one(bench, monkeypatch, capsys, option):
    monkeypatch.setattr(sys, 'argv', ['mmcv_ops.py', *option])
    monkeypatch.setitem(sys.modules, 'mmcv._ext', SimpleNamespace())
    with pytest.raises(SystemExit):
        bench.main()
    message = capsys.readouterr().err
    assert 'holds no mmcv/_ext' in message if option else 'no compiled ops' in message
    assert 'MMCV_WITH_OPS=1' in message
    assert torch.__version__ in message


def test_a_damaged_build_is_told_apart(bench, tmp_path):
    (tmp_path / 'mmcv').mkdir()
    (tmp_path / 'mmcv' / '_ext.cpython-311-x86_64-linux-gnu.so').write_bytes(b'not a library')
    with pytest.raises(ValueError, match='does not load with this torch'):
        bench.compiled_ops(tmp_path)
