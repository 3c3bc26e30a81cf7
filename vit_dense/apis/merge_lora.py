"""From a training checkpoint to one for use: LoRA merged, what only training needs left out."""

from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from ..backbones import LoRATimmViT, TimmViT
from ..weights import LoadReport, read_checkpoint
from ..weights.match import compare, require
from .config import require_file

# What is kept of the training, beside the weights and the config.
_META = ('dataset_meta', 'mmengine_version', 'seed')
_SUFFIXES = ('.pth', '.pt')
_LORA_OPTIONS = ('rank', 'alpha', 'dropout', 'targets')


def merge_checkpoint(config: Config, checkpoint: str, out: str) -> dict[str, int]:
    """Write the weights of a checkpoint alone, under the names of a model without LoRA.

    A config reads the result with `type='TimmViT'` in place of 'LoRATimmViT', as `meta['cfg']`
    has it. Where training averaged weights (EMA), the average is what is written, as checkpoints
    hold it as `state_dict`.

    Args:
        config: From `load_config`; the one that trained the checkpoint.
        checkpoint: What training wrote.
        out: The file to write.

    Returns:
        Numbers for the user: 'tensors' written, 'merged' corrections.

    Raises:
        ValueError: If `out` is the checkpoint itself or has another suffix, or if the checkpoint is
            not of the config's model.
    """
    require_file(checkpoint, 'Checkpoint')
    if Path(out).resolve() == Path(checkpoint).resolve():
        raise ValueError(f'{out} is the checkpoint itself: name another file to write.')
    if Path(out).suffix not in _SUFFIXES:
        raise ValueError(f'{out}: write to a file that ends in {" or ".join(_SUFFIXES)}.')
    content = read_checkpoint(checkpoint)
    state = content.get('state_dict', content)
    init_default_scope(config.get('default_scope', 'mmengine'))
    model = MODELS.build(config.model)
    report = LoadReport(checkpoint)
    compare(state, model.state_dict(), report)
    require(report, 'the model of the config', advice='Give the config that trained it.')
    model.load_state_dict(state)
    merged = _merge_lora(model)
    plain = {name: tensor.cpu() for name, tensor in model.state_dict().items()}
    meta: dict[str, Any] = {k: v for k, v in content.get('meta', {}).items() if k in _META}
    meta['cfg'] = Config(without_lora(config.to_dict())).pretty_text
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    torch.save({'state_dict': plain, 'meta': meta}, out)
    return {'tensors': len(plain), 'merged': merged}


def _merge_lora(model: nn.Module) -> int:
    """Merge the corrections of every `LoRATimmViT` in `model`, and returns their number."""
    return sum(part.merge_lora() for part in model.modules() if isinstance(part, LoRATimmViT))


def without_lora(config: Any) -> Any:
    """Return a copy of a config's values in which every 'LoRATimmViT' is a `TimmViT`."""
    if isinstance(config, list | tuple):
        return type(config)(without_lora(value) for value in config)
    if not isinstance(config, dict):
        return config
    plain = {key: without_lora(value) for key, value in config.items()}
    if plain.get('type') == LoRATimmViT.__name__:
        plain = {key: value for key, value in plain.items() if key not in _LORA_OPTIONS}
        plain['type'] = TimmViT.__name__
    return plain
