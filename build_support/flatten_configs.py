"""Write the files that let other projects inherit the configs of an installed package.

`configs/` is the only source. From it the build derives, inside the package:

- `.mim/configs/`, a copy, with `.mim/model-index.yml`: for `_base_ = 'vit_dense::...'`;
- `configs/`, the same files with their bases merged in: for `with read_base(): from
  vit_dense.configs.vit_upernet_ade20k import *`. mmengine refuses to mix that style with
  `_base_`, and accepts a file that holds plain values only.

Using mmengine would require torch in the build environment. This module therefore implements the
part of its `_base_` merging that our configs use (no `{{...}}` templates, no JSON or YAML) with the
standard library; `tests/configs` compares both on every config.
"""

import ast
import copy
import pprint
import re
import shutil
import types
from pathlib import Path
from typing import Any

BASE_KEY = '_base_'
DELETE_KEY = '_delete_'
PREFIX = 'vit_dense::'
CONFIGS = Path(__file__).parents[1] / 'configs'
# Not variables: the Runner or a command reads them.
RUNNER_KEYS = {
    *('model', 'work_dir', 'train_dataloader', 'val_dataloader', 'test_dataloader', 'train_cfg'),
    *('val_cfg', 'test_cfg', 'auto_scale_lr', 'optim_wrapper', 'param_scheduler'),
    *('val_evaluator', 'test_evaluator', 'default_hooks', 'custom_hooks', 'data_preprocessor'),
    *('load_from', 'resume', 'launcher', 'env_cfg', 'log_processor', 'log_level', 'visualizer'),
    *('default_scope', 'randomness', 'experiment_name', 'cfg', 'runner_type', 'sharding'),
    *('model_wrapper_cfg', 'find_unused_parameters', 'sync_bn', 'tta_model', 'tta_pipeline'),
    *('fp16', 'custom_imports', 'vis_backends'),
}
MODEL_INDEX = '# mmengine asks for this file; no config has released weights yet.\nImport: []\n'
# mmengine evaluates `custom_imports` in the classic style only; read_base needs the imports here.
_IMPORT_NOTE = '# read_base overlooks `custom_imports`, and may not meet an import statement'


def generate(configs: Path, package: Path) -> None:
    """Derive `<package>/configs` and `<package>/.mim` from `configs`, from scratch."""
    flat, mim = package / 'configs', package / '.mim'
    for derived in (flat, mim):
        shutil.rmtree(derived, ignore_errors=True)
    sources = sorted(configs.rglob('*.py'))
    for source in sources:
        relative = source.relative_to(configs)
        _write(mim / 'configs' / relative, source.read_text(encoding='utf-8'))
        target = flat / module_path(relative)
        if target.exists():
            raise ValueError(f'{source} and another config are both {target}: rename one of them')
        _write(target, render(load_config(source), relative))
    _write(mim / 'model-index.yml', MODEL_INDEX)


def module_path(relative: Path) -> Path:
    """Return the path that Python can import: hyphens become underscores."""
    return relative.with_name(relative.name.replace('-', '_'))


def render(config: dict[str, Any], source: Path) -> str:
    """Return the text of a config file of plain values.

    Raises:
        ValueError: If a value cannot be written as a Python literal.
    """
    lines = [f'# Written by setup.py from configs/{source.as_posix()}: edit that file instead.']
    imports = config.get('custom_imports', {}).get('imports', [])
    if imports:
        lines += [_IMPORT_NOTE, *(f'__import__({name!r})' for name in imports)]
    for key, value in config.items():
        text = pprint.pformat(value, width=96, sort_dicts=False)
        try:
            faithful = ast.literal_eval(text) == value
        except (ValueError, SyntaxError):
            faithful = False
        if not faithful:
            raise ValueError(
                f'configs/{source.as_posix()}: {key} = {text} cannot be written into the package; '
                f'configs hold dicts, lists, tuples, strings, numbers, booleans and None'
            )
        lines.append(f'{key} = {text}')
    return '\n'.join(lines) + '\n'


def load_config(path: Path, given: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the values of a config with its bases merged, as mmengine reads them.

    As with `vit_dense.compat.config_variables`, a variable that a config sets drives what its bases
    compute from it.

    Args:
        path: The config.
        given: Values for variables of the config, from a config that inherits it.

    Raises:
        ValueError: If two bases of one file define the same key.
        FileNotFoundError: If a base is missing.
    """
    given = given or {}
    passed: dict[str, Any] = {}
    text = path.read_text(encoding='utf-8')
    lines = ast.parse(text, str(path)).body
    bases = [name for line in lines if _is_base_list(line) for name in _names(line)]
    body = [line for line in lines if not _is_base_list(line)]

    inherited = _load_bases(path, bases, given)
    merged = _merge(_execute(body, path, inherited, given), inherited)
    for is_read in (False, True):
        changed = {
            name: merged[name]
            for name in inherited.keys() - RUNNER_KEYS
            if merged[name] != inherited[name]
            and is_read == bool(re.search(rf'{BASE_KEY}\W+{name}\b', text))
        }
        if changed:
            kept = {name: inherited[name] for name in changed}
            passed |= changed
            inherited = _load_bases(path, bases, {**given, **passed})
            own = _execute(body, path, _Namespace({**inherited, **kept}), given)
            merged = _merge(own, inherited)
    return _unwrap(merged)


def _load_bases(path: Path, bases: list[str], given: dict[str, Any]) -> '_Namespace':
    inherited = _Namespace()
    for base in bases:
        ours = base.startswith(PREFIX)
        values = load_config(CONFIGS / base[len(PREFIX) :] if ours else path.parent / base, given)
        if double := inherited.keys() & values.keys():
            raise ValueError(f'{path}: {sorted(double)} come from two bases; keep them in one')
        inherited.update(_wrap(values))
    return inherited


def _execute(
    body: list[ast.stmt], path: Path, inherited: '_Namespace', given: dict[str, Any]
) -> dict[str, Any]:
    """Return the values that statements assign, with those of `given` in place of theirs."""
    scope: dict[str, Any] = {BASE_KEY: inherited}
    for statement in body:
        exec(compile(ast.Module([statement], []), str(path), 'exec'), scope)
        for name in given.keys() & scope.keys():
            listed = isinstance(given[name], list) and isinstance(scope[name], tuple)
            scope[name] = tuple(given[name]) if listed else copy.deepcopy(given[name])
    return {
        key: value
        for key, value in scope.items()
        if key != BASE_KEY
        and not key.startswith('__')
        and not isinstance(value, types.FunctionType | types.ModuleType)
    }


class _Namespace(dict[str, Any]):
    """A dict whose keys are attributes too, for `_base_.crop_size`."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f'no base config defines {name!r}') from None


def _is_base_list(statement: ast.stmt) -> bool:
    if not isinstance(statement, ast.Assign):
        return False
    target = statement.targets[0]
    return isinstance(target, ast.Name) and target.id == BASE_KEY


def _names(statement: ast.stmt) -> list[str]:
    named = ast.literal_eval(statement.value)  # type: ignore[attr-defined]
    return [named] if isinstance(named, str) else list(named)


def _merge(own: dict[str, Any], inherited: dict[str, Any]) -> dict[str, Any]:
    """Merge `own` over `inherited`: dicts key by key; other values are replaced."""
    merged = dict(inherited)
    for key, value in own.items():
        if isinstance(value, dict):
            replaces = value.get(DELETE_KEY, False)
            value = {k: v for k, v in value.items() if k != DELETE_KEY}
            if key in merged and not replaces:
                if not isinstance(merged[key], dict):
                    raise ValueError(
                        f'{key} is a dict here and {type(merged[key]).__name__} in the base: '
                        f'set {DELETE_KEY}=True in it to replace the base value'
                    )
                value = _merge(value, merged[key])
        merged[key] = value
    return merged


def _wrap(value: Any) -> Any:
    if isinstance(value, dict):
        return _Namespace({k: _wrap(v) for k, v in value.items()})
    if isinstance(value, list | tuple):
        return type(value)(_wrap(v) for v in value)
    return value


def _unwrap(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _unwrap(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_unwrap(v) for v in value)
    return value


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding='utf-8')
