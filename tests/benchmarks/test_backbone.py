"""The backbone benchmark: what it counts and measures, which variants it runs, its tables."""

import math
from pathlib import Path

import pytest
import torch
from torch import nn

ROOT = Path(__file__).parents[2]


@pytest.fixture
def bench(monkeypatch):
    """The script as a module, importable by the processes that it starts."""
    monkeypatch.syspath_prepend(ROOT / 'benchmarks')
    import backbone

    return backbone


def rows(text: str) -> list[list[str]]:
    """The cells of a printed table's body."""
    lines = [line for line in text.splitlines() if line.startswith('|')]
    return [[cell.strip() for cell in line.strip('|').split('|')] for line in lines[2:]]


@pytest.mark.parametrize(
    ('window', 'blocks', 'tokens_seen'),
    # 5x5 patches in windows of 3 make 3x3, two 2x3 and 2x2, each with the cls token
    [('none', 'four', 6 * 26**2), ('3', 'none', 6 * (10**2 + 2 * 7**2 + 5**2))],
)
def test_attention_counts(bench, window, blocks, tokens_seen):
    argv = ['--models', 'test_vit', '--window-size', window, '--global-blocks', blocks]
    args = bench.parse_args([*argv, '--adapters', 'SimpleFeaturePyramid'])
    (variant,) = bench.variants('test_vit', args)
    vit, image = variant.build().vit, torch.randn(1, 3, 80, 80)
    tokens = 26 if window == 'none' else 10 + 2 * 7 + 5
    linear = sum(
        m.weight.numel() for m in vit.model.blocks.modules() if isinstance(m, nn.Linear)
    )  # per token
    expected = tokens * linear + 2 * tokens_seen * vit.embed_dim
    expected += 25 * vit.model.patch_embed.proj.weight.numel()
    assert bench.multiply_adds(Blocks(vit), image) == expected


class Blocks(nn.Module):
    """The ViT without its pyramid."""

    def __init__(self, vit):
        super().__init__()
        self.vit = vit

    def forward(self, image):
        return self.vit.run_blocks(*self.vit.embed(image), 0, self.vit.depth)


def test_peak_of_a_known_step(bench):
    """Three blocks are held at once, and what was freed before counts once."""
    peak = bench.in_fresh_process(peak_of_three_blocks)
    assert peak is None or 3 <= peak / BLOCK_BYTES < 3.5


BLOCK_BYTES = 40 * 2**20  # so large that the C library asks the system for each


def peak_of_three_blocks():
    from measuring import peak_bytes

    def step(model, image):
        kept = [model(image) for _ in range(2)]
        for _ in range(4):
            model(image)
        return kept

    return peak_bytes(step, lambda size: torch.ones(size), torch.tensor(BLOCK_BYTES // 4))


def test_variants_follow_the_options(bench):
    args = bench.parse_args(['--table', 'training', '--adapters', 'ViTAdapter'])
    found = bench.variants('test_vit', args)
    assert [(v.window_size, v.checkpointing) for v in found] == [
        (None, False), (None, True), (14, False), (14, True)
    ]  # fmt: skip
    vit = found[-1].build().vit
    assert (vit.window_size, vit.grad_checkpointing, vit.global_blocks) == (14, True, (0, 2, 3, 5))
    args = bench.parse_args(['--window-size', 'none', '14', '--global-blocks', 'four', 'none'])
    assert [v.attention for v in bench.variants('test_vit', args)] == 3 * [
        'global', 'windows of 14', 'windows of 14 in all blocks'
    ]  # fmt: skip


def test_growth_exponent(bench):
    assert bench.exponent([1, 5, 16], [256, 512, 1024]) == 1
    assert bench.exponent([1, 4], [512, 1024]) == 1
    assert bench.exponent([1, 16], [512, 1024]) == 2
    assert math.isnan(bench.exponent([1], [512]))


def test_saved_activations(bench):
    """What two products and a view keep: each memory once, and no parameter."""

    class Chain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(8, 16))

        def forward(self, image):
            x = image @ self.weight  # keeps the image
            return (x.sigmoid() + x.view(-1).sigmoid().view_as(x),)  # keeps two outputs

    image = torch.ones(4, 8)
    assert bench.saved_bytes(Chain(), image) == 4 * (4 * 8 + 2 * 4 * 16)


@pytest.mark.slow
def test_tables(bench, capsys, monkeypatch):
    monkeypatch.setattr(bench, 'in_fresh_process', lambda function, *args: function(*args))
    monkeypatch.setattr(torch, 'set_num_threads', lambda count: None)
    common = ['--models', 'test_vit', '--runs', '1', '--warmup', '1', '--threads', '1']
    pyramid = ['--adapters', 'SimpleFeaturePyramid']
    for options in (
        ['--table', 'plain', '--sizes', '64'],
        ['--table', 'training', '--sizes', '64', '--adapters', 'ViTAdapter', '--clock', 'cpu'],
        ['--table', 'pixels', '--sizes', '64', '128', *pyramid],
        ['--table', 'pixels', '--sizes', '64', '512', '--runs', '0', *pyramid],
        ['--table', 'frozen', '--sizes', '64'],
    ):
        monkeypatch.setattr('sys.argv', ['-', *common, *options])
        bench.main()
    out = capsys.readouterr().out
    tables = [rows(part) for part in out.split('CPU, 1 threads')[1:]]
    plain, training, timed, counted, frozen = tables
    assert [line[2] for line in plain] == [
        'plain',
        'SimpleFeaturePyramid',
        'ViTAdapter',
        'ViTCoMer',
    ]
    assert plain[0][3:6:2] == ['1.00', '1.00']
    assert float(plain[1][3]) > 1
    assert [line[4] for line in training] == ['off', 'on'] * 2
    assert training[0][6] in ('1.00', '-')
    assert training[0][9] == '1.00'
    assert [line[3] for line in timed] == ['G multiply-adds', 'seconds'] * 2
    # the smaller grid fits into one window, the larger one does not
    assert counted[0][4] == counted[1][4]
    assert float(counted[0][5]) > float(counted[1][5])
    assert [line[2] for line in frozen] == [
        'ViTAdapter',
        'ViTAdapter, inject=False',
        'SimpleFeaturePyramid',
    ]
    assert frozen[0][4] == '1.00'
    assert float(frozen[1][4]) < 1
