"""Every name of timm that this package relies on exists, private ones above all.

The names are read from the sources, so that the list is always complete. A release of timm that
drops some is reported with all of them at once; this file therefore imports nothing of ours.
"""

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import timm

ROOT = Path(__file__).parents[2] / 'vit_dense'
FAMILIES = ROOT / 'backbones' / 'families'

# Private methods that families call on timm's models, and the classes that must have them.
PRIVATE_METHODS = {
    '_pos_embed': (
        'vision_transformer.VisionTransformer',
        'eva.Eva',
        'deepseek_vit.DeepseekVitEncoder',
        'qwen3_vit.Qwen3VitEncoder',
    ),
    '_forward_embeds': ('naflexvit.NaFlexVit',),
}

Sources = dict[Path, ast.Module]


@pytest.fixture(scope='module')
def sources() -> Sources:
    return {path: ast.parse(path.read_text()) for path in sorted(ROOT.rglob('*.py'))}


def timm_aliases(tree: ast.Module) -> dict[str, str]:
    """Names that a file imports from timm -> their full names."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not node.level:
            if (node.module or '').split('.')[0] == 'timm':
                found |= {a.asname or a.name: f'{node.module}.{a.name}' for a in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.asname or 'timm': a.name for a in node.names if a.name == 'timm'}
    return found


def full_name(node: ast.AST, aliases: dict[str, str]) -> str | None:
    if isinstance(node, ast.Name):
        return aliases.get(node.id)
    if isinstance(node, ast.Attribute) and (owner := full_name(node.value, aliases)):
        return f'{owner}.{node.attr}'
    return None


def exists(name: str) -> bool:
    """Whether a full name is a module, or something in one."""
    parts = name.split('.')
    for split in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module('.'.join(parts[:split]))
        except ModuleNotFoundError:
            continue
        for part in parts[split:]:
            found = getattr(found, part, None)
        return found is not None
    return False


def timm_names(sources: Sources) -> set[str]:
    """Full names of modules, functions and classes."""
    names = set()
    for tree in sources.values():
        aliases = timm_aliases(tree)
        names |= set(aliases.values())
        names |= {name for node in ast.walk(tree) if (name := full_name(node, aliases))}
    return names


def subclasses(sources: Sources) -> Iterator[tuple[str, str, ast.ClassDef]]:
    """Our subclasses of timm's classes: name, timm's full name, definition."""
    for tree in sources.values():
        aliases = timm_aliases(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                for base in node.bases:
                    if name := full_name(base, aliases):
                        yield node.name, name, node


def private_calls(sources: Sources) -> set[str]:
    """Private attributes that families read from objects other than their own."""
    return {
        node.attr
        for path, tree in sources.items()
        if path.parent == FAMILIES
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and re.match(r'_[a-z]', node.attr)
        and ast.unparse(node.value) not in ('self', 'super()')
    }


def written_attributes(sources: Sources) -> set[str]:
    """Attributes that families set on timm's objects; a renamed one would be set in vain."""
    return {
        target.attr
        for path, tree in sources.items()
        if path.parent == FAMILIES
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for targets in node.targets
        for target in ast.walk(targets)
        if isinstance(target, ast.Attribute)
        and isinstance(target.ctx, ast.Store)
        and not target.attr.startswith('__')
    }


def missing(sources: Sources) -> list[str]:
    """All names that this timm lacks."""
    names = timm_names(sources)
    for method, owners in PRIVATE_METHODS.items():
        names |= {f'timm.models.{owner}.{method}' for owner in owners}
    for _, base, definition in subclasses(sources):
        methods = (x.name for x in definition.body if isinstance(x, ast.FunctionDef))
        names |= {f'{base}.{x}' for x in methods if re.match(r'_[a-z]', x)}
    return sorted(name for name in names if not exists(name))


def test_every_name_exists(sources: Sources) -> None:
    assert len(timm_names(sources)) > 40
    assert not missing(sources), f'timm {timm.__version__} lacks these names'


def test_every_attribute_that_is_set_exists(sources: Sources) -> None:
    """As `self.NAME` or an argument of the same name somewhere in timm."""
    text = '\n'.join(path.read_text() for path in Path(inspect.getfile(timm)).parent.rglob('*.py'))
    ours = {'uses', 'pretrained_cfg'}  # ours on ImageDropPath; set by timm's builder
    written = written_attributes(sources) - ours
    assert {'strict_img_size', 'rel_indices', 'shift_size'} <= written
    lost = [name for name in sorted(written) if not re.search(rf'self\.{name}\b', text)]
    assert not lost, f'timm {timm.__version__} has none of these attributes'


def test_table_of_private_methods_is_complete(sources: Sources) -> None:
    assert private_calls(sources) == set(PRIVATE_METHODS)


def test_classes_that_are_swapped_derive_from_timm(sources: Sources) -> None:
    """The target of each `x.__class__ = ...` is timm's, or a subclass that changes methods only."""
    derived = {name for name, _, _ in subclasses(sources)}
    for path, tree in sources.items():
        aliases = timm_aliases(tree)
        for node in ast.walk(tree):
            if not isinstance(node, ast.Assign):
                continue
            for target in node.targets:
                if isinstance(target, ast.Attribute) and target.attr == '__class__':
                    value = ast.unparse(node.value)
                    known = value in derived or full_name(node.value, aliases)
                    assert known or value == 'kind', f'{path}: {value}'  # of a tuple of ours
    for name, _, definition in subclasses(sources):
        methods = {x.name for x in definition.body if isinstance(x, ast.FunctionDef)}
        assert '__init__' not in methods, f'{name}: a swapped class is never constructed'


def test_names_that_are_gone_are_reported(
    sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = [
        'timm.layers.pos_embed_rel.gen_relative_log_coords',
        'timm.models.beit.Attention._get_rel_pos_bias',
        'timm.models.convit.Block',
        'timm.models.eva.Eva._pos_embed',
    ]
    for name in gone:
        monkeypatch.delattr(name)
    assert missing(sources) == gone
