"""Keep the console short, so that the first loss or an error is not behind hundreds of lines.

The description of the machine, the config, the list of hooks and notes that ask for nothing are
written to the log file alone. `log_level = 'DEBUG'` in a config prints them.
"""

import logging
import re
from typing import Any

from mmengine.logging import MMLogger
from mmengine.runner import Runner

__all__ = ['FILE_ONLY', 'install']

# Beginnings of messages of mmengine, and of the table that `engine.layer_decay` writes.
FILE_ONLY = re.compile(
    r'\s*-+\s+System environment:'
    r'|Config:\n'
    r'|Hooks will be executed in the following order'
    r'|Distributed training is not used, all SyncBatchNorm'
    r'|The prefix is not set in metric class'
    r'|"FileClient" will be deprecated'
    r'|"HardDiskBackend" is the alias'
    r'|layer +lr scale'
    r'|Auto resumed from the latest checkpoint None'
    r'|Please make sure that the mlflow server is running'
    r'|Advance dataloader'  # untrue: see `train_loader`
)
_mmengine_logger_init = MMLogger.__init__
_mmengine_log_env = Runner._log_env


def install() -> None:
    """Filter what loggers with a file print; the file has everything."""
    MMLogger.__init__ = _init
    Runner._log_env = _log_env


def _init(self: MMLogger, *args: Any, **kwargs: Any) -> None:
    _mmengine_logger_init(self, *args, **kwargs)
    if self.log_file is None:
        return
    for handler in self.handlers:
        if not isinstance(handler, logging.FileHandler) and handler.level > logging.DEBUG:
            handler.addFilter(_is_shown)


def _is_shown(record: logging.LogRecord) -> bool:
    return not FILE_ONLY.match(record.getMessage())


def _log_env(self: Runner, env_cfg: dict[str, Any]) -> None:
    _mmengine_log_env(self, env_cfg)
    self.logger.info(f'Log file, with environment, config and hooks: {self.logger.log_file}')
