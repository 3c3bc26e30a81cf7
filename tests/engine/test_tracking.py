"""Trackers record curves and pictures; their errors never end a training."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from tiny_training import tiny_config

from vit_dense.apis import train_model
from vit_dense.engine.pictures_hook import PicturesHook
from vit_dense.engine.tracking import TrackerVisBackend

# Without an image in the data, the hook draws no row of its own.
ROW = np.full((64, 200, 3), 200, np.uint8)


@HOOKS.register_module()
class OneRowHook(PicturesHook):
    """Writes a sheet of one grey row after each validation."""

    CONTENT = 'grey'

    def before_val_epoch(self, runner: Runner) -> None:
        self._rows = [ROW]

    def after_val_iter(self, *_: Any, **__: Any) -> None:
        pass


@pytest.fixture(autouse=True)
def _one_class(monkeypatch: pytest.MonkeyPatch) -> None:
    colours = 'vit_dense.engine.pictures_hook.class_colours'
    monkeypatch.setattr(colours, lambda loader: (('a',), [(1, 2, 3)]))


def train(work: Path, tracker: str, **changes: Any) -> Runner:
    """Trains three steps with a validation after each."""
    config = Config({**tiny_config(work), **changes})
    config.default_hooks = {
        'logger': {'type': 'LoggerHook', 'interval': 1},
        'pictures': {'type': 'OneRowHook'},
    }
    return train_model(config, tracker=tracker)


def test_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip('tensorboard')
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(tmp_path / 'work', 'tensorboard')
    events = EventAccumulator(str(next(tmp_path.glob('work/*/vis_data/events.*')))).Reload()
    assert [one.step for one in events.Scalars('loss')] == [1, 2, 3]
    assert [one.step for one in events.Images('pictures/val')] == [1, 2, 3]


def test_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip('mlflow', reason='mlflow is not installed')
    monkeypatch.delenv('MLFLOW_TRACKING_URI', raising=False)
    train(tmp_path / 'work', 'mlflow')
    client = mlflow.MlflowClient(f'sqlite:///{tmp_path}/mlflow.db')
    (run,) = client.search_runs([client.get_experiment_by_name('vit_dense').experiment_id])
    assert run.info.status == 'FINISHED'
    assert run.data.tags['mlflow.runName'] == 'work'
    curve = client.get_metric_history(run.info.run_id, 'loss')
    # The mean of the batches 1, 2 and 3, squared.
    assert [(one.step, one.value) for one in curve] == [
        (1, 1),
        (2, 2.5),
        (3, pytest.approx(14 / 3)),
    ]
    pictures = [one.path for one in client.list_artifacts(run.info.run_id, 'pictures')]
    assert pictures == [f'pictures/val_{step}.png' for step in (1, 2, 3)]


@pytest.mark.slow
def test_wandb_writes_a_run_without_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip('wandb', reason='wandb is not installed')
    monkeypatch.delenv('WANDB_MODE', raising=False)
    train(tmp_path / 'work', 'wandb')
    (run,) = tmp_path.glob('work/*/vis_data/wandb/offline-run-*')
    assert len(list(run.glob('files/media/images/pictures/*.png'))) == 3


def test_an_error_of_a_tracker_does_not_end_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip('tensorboard')
    from mmengine.visualization import TensorboardVisBackend

    def fail(*_: Any, **__: Any) -> None:
        raise ConnectionError('no route to the server')

    monkeypatch.setattr(TensorboardVisBackend, 'add_scalars', fail)
    runner = train(tmp_path / 'work', 'tensorboard')
    assert runner.iter == 3
    (log,) = tmp_path.glob('work/*/*.log')
    assert log.read_text().count('ConnectionError: no route to the server') == 1


def test_names_that_mlflow_rejects_are_changed(tmp_path: Path) -> None:
    seen = []
    backend = TrackerVisBackend('mlflow', str(tmp_path))
    backend._backend.add_scalars = lambda values, step: seen.append((values, step))
    backend.add_scalars({'coco/AR@100': 0.5, 'coco/bbox_mAP': 0.4}, 7)
    assert seen == [({'coco/AR_100': 0.5, 'coco/bbox_mAP': 0.4}, 7)]


def test_mistakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config(tiny_config(tmp_path / 'work'))
    with pytest.raises(ValueError, match='choose one of tensorboard, mlflow, wandb'):
        train_model(config, tracker='comet')
    monkeypatch.setattr('vit_dense.engine.tracking.find_spec', lambda name: None)
    with pytest.raises(ValueError, match=r'pip install "vit_dense\[track\]"'):
        train_model(config, tracker='mlflow')
