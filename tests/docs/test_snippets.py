"""What the pages say: configs parse and fit, links, paths and commands exist."""

import ast
import importlib
import importlib.util
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

import vit_dense.segmentation  # noqa: F401 - mmseg and mmdet import only after it
from vit_dense.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
READMES = (ROOT / 'README.md', ROOT / 'README.zh-CN.md')
GUIDES = (ROOT / 'ARCHITECTURE.md', ROOT / 'CONTRIBUTING.md')
PAGES = (*READMES, *GUIDES, *sorted((ROOT / 'docs').rglob('*.md')))
DERIVED = {'vit_dense/configs', 'vit_dense/.mim'}  # written by the build

BLOCK = re.compile(r'^```python(?: title="(?P<title>[^"]+)")?\n(?P<code>.*?)^```', re.M | re.S)
LINK = re.compile(r'\]\((?!https?://)([^)#\s]*)(?:#([^)\s]+))?\)')
NAMED_PATH = re.compile(
    r'(?<![\w./-])((?:configs|tools|benchmarks|requirements|docs|examples|tests|vit_dense'
    r'|build_support)/[\w./-]*)'
)
COMMAND = re.compile(r'vit-dense (?!-)([a-z][a-z-]+)(?= |$|`)', re.M)
MAKE = re.compile(r'(?:^    |`)make ([a-z][a-z-]+)', re.M)


@dataclass(frozen=True)
class Block:
    """A Python block of a page."""

    page: str
    title: str | None
    code: str

    @property
    def is_config(self) -> bool:
        return '_base_ =' in self.code

    def __str__(self) -> str:
        return f'{self.page}-{self.title or self.code.splitlines()[0][:40]}'


BLOCKS = [
    Block(page.relative_to(ROOT).as_posix(), match['title'], match['code'])
    for page in PAGES
    for match in BLOCK.finditer(page.read_text(encoding='utf-8'))
]
CONFIGS = [block for block in BLOCKS if block.is_config]
CODE = [block for block in BLOCKS if not block.is_config]
every_page = pytest.mark.parametrize(
    'page', PAGES, ids=lambda page: page.relative_to(ROOT).as_posix()
)


def write(block: Block, folder: Path) -> Path:
    """Write a block, and the titled blocks of its page, into an empty folder."""
    for other in BLOCKS:
        if other.page == block.page and other.title:
            (folder / other.title).write_text(other.code, encoding='utf-8')
    path = folder / (block.title or 'config.py')
    path.write_text(block.code.replace('/path/to/vit_dense', str(ROOT)), encoding='utf-8')
    return path


@pytest.fixture
def registered():
    """Types that a test registers are forgotten afterwards."""
    modules = set(sys.modules)
    yield
    own = {Path(block.title).stem for block in CODE if block.title} - modules
    for name, kind in list(MODELS.module_dict.items()):
        if kind.__module__ in own:
            MODELS._module_dict.pop(name)
    for name in own:
        sys.modules.pop(name, None)


def build(config: Config) -> torch.nn.Module:
    """The model of a config, without memory for its weights."""
    init_default_scope(config.default_scope)
    with torch.device('meta'):
        return MODELS.build(config.model)


@pytest.mark.parametrize('block', CONFIGS, ids=str)
@pytest.mark.usefixtures('registered')
def test_configs_parse_and_their_parts_fit(block, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    config = Config.fromfile(write(block, tmp_path))
    if config.model.type == 'MaskedAutoencoder':
        assert build(config).vit.in_chans == len(config.mean)
        return
    vit = config.model.backbone.get('vit', {})
    if vit.get('type') == 'LoRATimmViT' and importlib.util.find_spec('peft') is None:
        assert (vit.pop('rank'), vit.pop('alpha')) == (8, 16.0)
        vit.type = 'TimmViT'
    channels = list(build(config).backbone.out_channels)
    if config.default_scope == 'mmdet':
        assert config.model.neck.in_channels == channels
        return
    for name in ('decode_head', 'auxiliary_head'):
        head = config.model.get(name)
        if head is None:
            continue
        default = -1 if isinstance(head.in_channels, int) else list(range(4))
        index = head.get('in_index', default)
        expected = channels[index] if isinstance(index, int) else [channels[i] for i in index]
        assert head.in_channels == expected, name


SCHEDULES = [block for block in CONFIGS if 'param_scheduler' in block.code]


@pytest.mark.parametrize('block', SCHEDULES, ids=str)
def test_learning_rates_decay_until_the_end(block, tmp_path):
    config = Config.fromfile(write(block, tmp_path))
    length = config.train_cfg.get('max_iters') or config.train_cfg.max_epochs
    assert config.param_scheduler[-1].end == length
    assert all(step < length for step in config.param_scheduler[-1].get('milestones', ()))


def test_both_tasks_show_a_shorter_training():
    assert {block.page for block in SCHEDULES} == {'docs/data.md', 'docs/detection.md'}


@pytest.mark.parametrize('block', CODE, ids=str)
def test_code_compiles_and_imports_what_exists(block):
    for node in ast.walk(ast.parse(block.code)):
        if not isinstance(node, ast.ImportFrom) or not node.module.startswith('vit_dense'):
            continue
        if node.module.startswith('vit_dense.configs.'):
            assert (ROOT / 'configs' / f'{node.module.split(".")[-1]}.py').is_file()
            continue
        module = importlib.import_module(node.module)
        assert all(hasattr(module, alias.name) for alias in node.names), node.module


@pytest.mark.usefixtures('registered')
def test_the_adapter_of_the_docs_gives_exact_maps(tmp_path, monkeypatch):
    """`docs/extend.md`, from an empty folder; on patches of 14 as well."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (block,) = [one for one in CONFIGS if one.title == 'resampled_ade20k.py']
    config = Config.fromfile(write(block, tmp_path))
    for name in ('vit_tiny_patch16_224', 'vit_small_patch14_dinov2'):
        vit = {'type': 'TimmViT', 'model_name': name, 'model_kwargs': {'depth': 1}}
        backbone = MODELS.build({**config.model.backbone, 'vit': vit, 'out_channels': 8})
        maps = backbone(torch.randn(2, 3, 70, 97))
        sizes = [(18, 25), (9, 13), (5, 7), (3, 4)]
        assert [tuple(x.shape) for x in maps] == [(2, 8, *size) for size in sizes]
        sum(x.mean() for x in maps).backward()
        assert backbone.vit.model.blocks[0].mlp.fc1.weight.grad.any()


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub and MkDocs make them."""
    text = re.sub(r'^```.*?^```', '', page.read_text(encoding='utf-8'), flags=re.M | re.S)
    titles = re.findall(r'^#+ (.+)$', text, re.M)
    return {re.sub(r'\s+', '-', re.sub(r'[^\w\s-]', '', title.lower())) for title in titles}


@every_page
def test_links_lead_somewhere(page):
    for target, anchor in LINK.findall(page.read_text(encoding='utf-8')):
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), f'{target}#{anchor}'


@every_page
def test_named_files_exist(page):
    text = re.sub(r'(?:https?|file)://\S+', '', page.read_text(encoding='utf-8'))
    for name in NAMED_PATH.findall(text):
        name = name.rstrip('./')
        assert name in DERIVED or (ROOT / name).exists(), name


@every_page
def test_named_commands_exist(page):
    text = page.read_text(encoding='utf-8')
    assert set(COMMAND.findall(text)) <= COMMANDS.keys()
    targets = set(re.findall(r'^([\w -]+):', (ROOT / 'Makefile').read_text('utf-8'), re.M))
    known = {target for line in targets for target in line.split()}
    assert set(MAKE.findall(text)) <= known


def commands(page: Path) -> list[str]:
    """The indented lines of a page without their comments, and its Python blocks."""
    text = page.read_text(encoding='utf-8')
    lines = re.findall(r'^    (?! )(\S.*)$', BLOCK.sub('', text), re.M)
    shell = [re.split(r'\s{2,}', line.split(' #')[0].rstrip())[0] for line in lines]
    return shell + [match['code'] for match in BLOCK.finditer(text)]


def test_both_readmes_have_the_same_commands():
    english, chinese = READMES
    assert commands(english) == commands(chinese)
    assert len(commands(english)) >= 10


def test_the_readme_is_short():
    assert len(READMES[0].read_text(encoding='utf-8').splitlines()) <= 150
