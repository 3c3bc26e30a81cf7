"""Evaluation from a config, a checkpoint and the options that OpenMMLab users know."""

from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log

from .config import build_runner, innermost_dataset, require_file

# Each library's own hook for windows on the screen and painted images.
_VISUALIZATION_HOOKS = {'mmseg': 'SegVisualizationHook', 'mmdet': 'DetVisualizationHook'}
# Each library's own metric that writes predictions into one pickle.
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
    """Evaluates a checkpoint on the config's test data and returns the metrics.

    Args:
        config: From `load_config`; modified.
        checkpoint: The weights.
        out: A folder for predicted label maps (segmentation), or a `.pkl` file for all raw results.
        show: Show each result in a window.
        show_dir: A folder for pictures of all results.
        wait_time: Seconds that a window stays.
        tta: Merge the predictions for the flips and scales of the config's `tta_pipeline`. In
            detection only boxes are merged, and a metric that asks for masks is told not to.

    Raises:
        ValueError: A missing checkpoint, or options that the config cannot serve.
    """
    require_file(checkpoint, 'Checkpoint')
    config.load_from, config.resume = checkpoint, False
    if show_dir is not None:
        _draw_all(config, show_dir)
    if show:
        _visualization(config).update(show=True, wait_time=wait_time)
    note = _enable_tta(config) if tta else None
    if out is not None:
        _dump(config, out)
    runner = build_runner(config)
    if note is not None:
        # The runner's logger, which also writes to the work directory, exists only now.
        print_log(note, logger='current')
    return dict(runner.test())


def _draw_all(config: Config, folder: str) -> None:
    pictures = config.get('default_hooks', {}).get('pictures')
    if pictures is not None:
        pictures.update(folder=folder, count=None)
        return
    _visualization(config)
    if config.get('visualizer') is None:
        raise ValueError('--show-dir needs a visualizer in the config; see default_runtime.py.')
    config.visualizer.save_dir = folder


def _visualization(config: Config) -> ConfigDict:
    """Returns the config of the library's drawing hook, switched on, added where it is missing."""
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
    """Wraps the model; returns what the user should know about the metrics, if anything."""
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
    innermost_dataset(config.test_dataloader.dataset).pipeline = config.tta_pipeline
    config.tta_model.module = config.model
    config.model = config.tta_model
    if with_masks:
        return '--tta merges boxes only: masks are not evaluated. Without --tta they are.'
    return None


def _leave_out_masks(evaluators: list[ConfigDict]) -> bool:
    """Makes COCO metrics evaluate boxes where they ask for masks, and returns whether one did."""
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
    """The plain name of a registered type: configs write 'mmdet.X', 'X' or the class itself."""
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
    label_metrics[0].output_dir = out
