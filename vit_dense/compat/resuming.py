"""Resume from the newest checkpoint that is whole.

mmengine 0.10.7 resumes from the path in the file `last_checkpoint`, and starts anew over the old
files if that is absent. The file may be damaged, or the folder may have been moved.
"""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import mmengine.runner
from mmengine.logging import print_log

from .checkpoint_writing import read_last_checkpoint
from .finite_values import list_non_finite
from .safe_load import safe_load

__all__ = ['find_latest_checkpoint', 'install']


def install() -> None:
    """Replace mmengine's `find_latest_checkpoint`."""
    for module in (mmengine.runner, mmengine.runner.runner, mmengine.runner.checkpoint):
        vars(module).update(find_latest_checkpoint=find_latest_checkpoint)


def find_latest_checkpoint(path: str | os.PathLike[str]) -> str | None:
    """Return the checkpoint of the work directory `path` to resume from, or None if it has none.

    It is the file that `last_checkpoint` names: by its name in `path`, which may have been moved,
    else as it stands, without a look inside if it is an address or a folder (sharded checkpoints).
    If that cannot be resumed, it is the newest `*.pth` in `path` that can: it is whole, holds the
    state of an optimizer, and no NaN.

    Raises:
        ValueError: There are checkpoints, but none can be resumed.
    """
    recorded = read_last_checkpoint(path)
    if '://' in recorded or os.path.isdir(recorded):
        return recorded
    passed: list[str] = []
    for file in _candidates(Path(path), recorded):
        reason = _why_unsound(file)
        if not reason:
            if passed:
                text = f'Resuming from {file}. Passed over: {"; ".join(passed)}.'
                print_log(text, logger='current', level=logging.WARNING)
            return str(file)
        passed.append(f'{file.name} {reason}')
    if not passed:
        return None
    raise ValueError(
        f'No checkpoint in {path} can be resumed: {"; ".join(passed)}.\nTo start a new training, '
        'give another --work-dir (with load_from for the weights of a file), or remove these files.'
    )


def _candidates(folder: Path, recorded: str) -> Iterator[Path]:
    """Yield files, the best first; the recorded one even if it does not exist."""
    named = folder / os.path.basename(recorded)
    if recorded:
        yield named if os.path.isfile(named) or not os.path.isfile(recorded) else Path(recorded)
    files = [path for path in folder.glob('*.pth') if path.is_file() and path != named]
    yield from sorted(files, key=lambda path: path.stat().st_mtime_ns, reverse=True)


def _why_unsound(path: Path) -> str:
    """Return why a training cannot be resumed from a file; empty if it can."""
    if not os.path.isfile(path):
        return 'does not exist, though last_checkpoint names it'
    try:
        content = safe_load(path)
    except (ValueError, OSError):
        return f'is damaged or no checkpoint ({path.stat().st_size:,} bytes)'
    if 'optimizer' not in content or 'iter' not in content.get('meta', {}):
        return 'has no state of an optimizer'
    weights = content.get('state_dict', {})
    if bad := list_non_finite(weights, buffers=weights):
        return f'holds NaN in {bad[0]}'
    return ''
