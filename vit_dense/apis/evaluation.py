"""Evaluate a checkpoint from a config, with the options of OpenMMLab's tools."""

import importlib
from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log

from ..engine.out_of_memory import explain_out_of_memory
from .config import build_runner, innermost_datasets, require_file, require_one_task
from .work_dir import make_work_dir

# Each library's own hook that shows and saves results.
_VISUALIZATION_HOOKS = {'mmseg': 'SegVisualizationHook', 'mmdet': 'DetVisualizationHook'}
# Ours, and the package that registers it.
_PICTURES_HOOKS = {
    'mmseg': ('SegPicturesHook', 'vit_dense.segmentation'),
    'mmdet': ('DetPicturesHook', 'vit_dense.detection'),
}
# The metric that writes predictions into one pickle, where a library has its own.
_DUMP_METRICS = {'mmdet': 'DumpDetResults'}
_PICKLES = ('.pkl', '.pickle')


def evaluate_model(
    config: Config,
    checkpoint: str,
    *,
    out: str | None = None,
    show: bool = False,
    show_dir: str | None = None,
    wait_time: float = 2.0,
    tta: bool = False,
) -> dict[str, float]:
    """Evaluate a checkpoint on the config's test data and return the metrics.

    Args:
        config: From `load_config`; modified.
        checkpoint: The weights.
        out: A folder for predicted label maps (segmentation), or a `.pkl` file for all raw results.
        show: Show each result in a window.
        show_dir: A folder for pictures of all results, of every process.
        wait_time: Seconds to show each window.
        tta: Merge the predictions for the flips and scales of the config's `tta_pipeline`. In
            detection only boxes are merged, and metrics of masks are left out.

    Raises:
        ValueError: The checkpoint does not exist, or the config does not support an option.
    """
    require_file(checkpoint, 'Checkpoint')
    config.load_from, config.resume = checkpoint, False
    if show or tta or show_dir is not None or out is not None:
        require_one_task(config)
    if show_dir is not None:
        _draw_all(config, show_dir)
    if show:
        _visualization(config).update(show=True, wait_time=wait_time)
    note = _enable_tta(config) if tta else None
    if out is not None:
        _dump(config, out)
    if folder := config.get('work_dir'):
        make_work_dir(folder)
    runner = build_runner(config)
    if note is not None:
        # The runner's logger, which also writes to the work directory, exists only now.
        print_log(note, logger='current')
    with explain_out_of_memory(runner):
        return dict(runner.test())


def _draw_all(config: Config, folder: str) -> None:
    pictures = config.get('default_hooks', {}).get('pictures')
    if pictures is not None:
        pictures.update(folder=folder, count=None)
        return
    scope = config.get('default_scope', '')
    if config.get('launcher', 'none') != 'none' and scope in _PICTURES_HOOKS:
        # The visualizer of mmengine draws in the main process alone.
        kind, package = _PICTURES_HOOKS[scope]
        importlib.import_module(package)
        hooks = config.setdefault('default_hooks', ConfigDict())
        hooks.pictures = ConfigDict(type=kind, folder=folder, count=None)
        return
    _visualization(config)
    if config.get('visualizer') is None:
        raise ValueError('--show-dir needs a visualizer in the config; see default_runtime.py.')
    config.visualizer.save_dir = folder


def _visualization(config: Config) -> ConfigDict:
    """Return the config of the library's drawing hook, enabled; add it if it is missing."""
    hooks = config.setdefault('default_hooks', ConfigDict())
    hook = hooks.get('visualization')
    if hook is None:
        scope = config.get('default_scope')
        if scope not in _VISUALIZATION_HOOKS:
            raise ValueError(
                '--show needs default_hooks.visualization in a config with default_scope='
                f'{scope!r}.'
            )
        hooks.visualization = ConfigDict(type=_VISUALIZATION_HOOKS[scope], interval=1)
        hook = hooks.visualization
    hook.draw = True
    return hook


def _enable_tta(config: Config) -> str | None:
    """Wrap the model; return what the user should know about the metrics, if anything."""
    missing = [name for name in ('tta_model', 'tta_pipeline') if config.get(name) is None]
    if missing:
        raise ValueError(
            f'--tta needs {" and ".join(missing)} in the config; the files in '
            'configs/_base_/datasets show what they look like.'
        )
    with_masks = _leave_out_masks(_evaluators(config))
    if with_masks and _name(config.tta_model.type) == 'DetTTAModel':
        raise ValueError(
            "--tta: tta_model.type='DetTTAModel' stops at a detector that predicts masks. Set "
            "tta_model.type='BoxTTAModel', which drops them and merges the boxes."
        )
    for dataset in innermost_datasets(config.test_dataloader.dataset):
        dataset.pipeline = config.tta_pipeline
    config.tta_model.module = config.model
    config.model = config.tta_model
    if with_masks:
        return '--tta merges boxes only: masks are not evaluated. Without --tta they are.'
    return None


def _leave_out_masks(evaluators: list[ConfigDict]) -> bool:
    """Make COCO metrics of masks evaluate boxes instead, and return whether there was one."""
    found = False
    for evaluator in evaluators:
        asked = evaluator.get('metric', ())
        if asked == 'segm' or (isinstance(asked, list) and 'segm' in asked):
            kept = [one for one in asked if one != 'segm'] if isinstance(asked, list) else []
            evaluator.metric = kept or ['bbox']
            found = True
    return found


def _evaluators(config: Config) -> list[ConfigDict]:
    given = config.get('test_evaluator') or []
    return list(given) if isinstance(given, list | tuple) else [given]


def _name(kind: str | type) -> str:
    """Return the name of a type without scope: configs write 'mmdet.X', 'X' or the class."""
    return (kind if isinstance(kind, str) else kind.__name__).rpartition('.')[-1]


def _dump(config: Config, out: str) -> None:
    evaluators = _evaluators(config)
    if out.endswith(_PICKLES):
        kind = _DUMP_METRICS.get(config.get('default_scope', ''), 'DumpResults')
        config.test_evaluator = [*evaluators, ConfigDict(type=kind, out_file_path=out)]
        return
    label_metrics = [one for one in evaluators if _name(one.get('type', '')) == 'IoUMetric']
    if not label_metrics:
        raise ValueError(
            f'--out {out}: only segmentation writes label maps into a folder. Name a file that '
            f'ends in {" or ".join(_PICKLES)}; for the .json files of COCO, set '
            'test_evaluator.outfile_prefix.'
        )
    # The metric makes the folder in the main process, and others may write before.
    Path(out).mkdir(parents=True, exist_ok=True)
    label_metrics[0].output_dir = out
