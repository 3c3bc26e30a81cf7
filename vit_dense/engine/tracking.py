"""Record curves and pictures of a training in TensorBoard, MLflow or Weights & Biases.

mmengine has a backend of its visualizer for each. They need settings to work on one machine without
a server, and an error in one of them, such as a lost connection, would end the training.
"""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log
from mmengine.registry import VISBACKENDS
from mmengine.visualization.vis_backend import BaseVisBackend

# Names of the packages, and mmengine's backends.
TRACKERS = {
    'tensorboard': 'TensorboardVisBackend',
    'mlflow': 'MLflowVisBackend',
    'wandb': 'WandbVisBackend',
}
_NOT_IN_MLFLOW_NAMES = re.compile(r'[^\w\-. :/]')


def enable_tracking(config: Config, tracker: str) -> None:
    """Add the backend of `tracker` to the visualizer of a config with a `work_dir`.

    - tensorboard: `WORK_DIR/*/vis_data`
    - mlflow: the server that the variable MLFLOW_TRACKING_URI names, else `mlflow.db` beside the
      work directory
    - wandb: offline, in `WORK_DIR/*/vis_data/wandb`, unless the variable WANDB_MODE is set

    Raises:
        ValueError: `tracker` is unknown, or its package is not installed.
    """
    if tracker not in TRACKERS:
        raise ValueError(f'--track {tracker}: choose one of {", ".join(TRACKERS)}.')
    if find_spec(tracker) is None:
        raise ValueError(
            f'--track {tracker} needs a package that is not installed: '
            'pip install "vit_dense[track]".'
        )
    work_dir = Path(config.work_dir).resolve()
    settings: dict[str, Any] = {}
    if tracker == 'mlflow':
        store = os.environ.get('MLFLOW_TRACKING_URI')
        settings = {
            'tracking_uri': store or f'sqlite:///{work_dir.parent / "mlflow.db"}',
            'artifact_location': None if store else (work_dir.parent / 'mlflow_files').as_uri(),
            'exp_name': 'vit_dense',
            'run_name': work_dir.name,
            'tracked_config_keys': [one for one in ('optim_wrapper', 'train_cfg') if one in config],
            'artifact_suffix': ('.log',),
        }
    elif tracker == 'wandb':
        settings['init_kwargs'] = {
            'project': 'vit_dense',
            'name': work_dir.name,
            'mode': os.environ.get('WANDB_MODE', 'offline'),
        }
        settings['define_metric_cfg'] = [{'name': '*', 'step_metric': 'iteration'}]
    if config.get('visualizer') is None:
        config.visualizer = ConfigDict(type='Visualizer')
    backends = config.visualizer.get('vis_backends') or [{'type': 'LocalVisBackend'}]
    added = {'type': 'TrackerVisBackend', 'tracker': tracker, 'settings': settings}
    config.visualizer.vis_backends = [*backends, added]


@VISBACKENDS.register_module()
class TrackerVisBackend(BaseVisBackend):
    """Pass records on to mmengine's backend of a tracker, and survive its errors.

    The first error is logged as a warning; later ones are dropped.

    Args:
        tracker: One of `TRACKERS`.
        save_dir: Folder of the visualizer.
        settings: Arguments of mmengine's backend.
    """

    def __init__(self, tracker: str, save_dir: str, settings: dict[str, Any] | None = None) -> None:
        super().__init__(save_dir)
        self.tracker = tracker
        self._has_warned = False
        kind = TRACKERS[tracker]
        self._backend = VISBACKENDS.build({'type': kind, 'save_dir': save_dir, **(settings or {})})

    @property
    def experiment(self) -> Any:
        """The backend's own object."""
        return self._backend.experiment

    def _init_env(self) -> None:
        """Leave the start to the backend, which does it when something is recorded."""

    def add_config(self, config: Config, **kwargs: Any) -> None:
        """Record the config."""
        with self._warn_once():
            self._backend.add_config(config, **kwargs)

    def add_image(self, name: str, image: np.ndarray, step: int = 0, **kwargs: Any) -> None:
        """Record a picture, `(H, W, 3)` RGB; one name may have a picture for each step."""
        # MLflow keeps files, and one file a name.
        name = f'{name}_{step}.png' if self.tracker == 'mlflow' else name
        with self._warn_once():
            self._backend.add_image(name, image, step, **kwargs)

    def add_scalar(self, name: str, value: Any, step: int = 0, **kwargs: Any) -> None:
        """Record one figure."""
        self.add_scalars({name: value}, step)

    def add_scalars(
        self, scalar_dict: dict[str, Any], step: int = 0, file_path: str | None = None, **_: Any
    ) -> None:
        """Record figures of one step."""
        if self.tracker == 'mlflow':
            scalar_dict = {_NOT_IN_MLFLOW_NAMES.sub('_', k): v for k, v in scalar_dict.items()}
        elif self.tracker == 'wandb':
            scalar_dict = {**scalar_dict, 'iteration': step}
        with self._warn_once():
            self._backend.add_scalars(scalar_dict, step)

    def close(self) -> None:
        """Finish the record."""
        with self._warn_once():
            self._backend.close()

    @contextmanager
    def _warn_once(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # whatever it is, the training is worth more than its record
            if not self._has_warned:
                print_log(
                    f'--track {self.tracker} fails: {type(error).__name__}: {error}. The training '
                    'continues; what cannot be recorded is left out, without further warnings.',
                    logger='current',
                    level=logging.WARNING,
                )
            self._has_warned = True
