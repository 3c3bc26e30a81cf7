"""Count what a model costs, part by part: parameters, multiply-adds, memory and time.

Multiply-adds are half the FLOPs of torch's `FlopCounterMode`, of one image: matrix products,
convolutions (deformable ones, too) and both products of attention, fused or not. Sampling of
deformable attention counts 5 per sampled value, as in its paper (Zhu et al. 2021, appendix A.1).
Elementwise operations, norms, resizing and RoIAlign are not counted.
"""

import copy
import gc
import importlib
import statistics
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, OPTIMIZERS, init_default_scope
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count, sdpa_flop_count

from .config import innermost_datasets, require_one_task
from .devices import choose_device

# Where a library's `random_batch` is, and the mode of a forward pass without losses. A detector's
# 'tensor' runs the heads on a given number of proposals, however few objects noise has.
_TASKS = {
    'mmseg': ('vit_dense.segmentation', 'predict'),
    'mmdet': ('vit_dense.detection', 'tensor'),
}
_OTHER = 'other'  # runs outside of all parts: resizing, losses that are no module
_SAMPLING_FLOPS = 2 * 5
_CORNERS = 4  # rows that the CPU backend of deformable attention gathers for one sample
_MIN_SECONDS = 2.0


@dataclass(frozen=True)
class Part:
    """The cost of one part of a model. Memory in bytes.

    Attributes:
        name: Its name in the model; 'backbone' without what 'backbone.vit' has, if that is a part.
        parameters: Number of all parameters.
        trained: Number of those with a gradient.
        multiply_adds: Of one image in a forward pass without losses.
        training_multiply_adds: Of one image in the forward pass of a training step.
        activations: What a training step of the batch keeps for its backward pass.
        training_memory: Parameters, gradients, state of the optimizer and `activations`.
    """

    name: str
    parameters: int
    trained: int
    multiply_adds: int
    training_multiply_adds: int
    activations: int
    training_memory: int


@dataclass(frozen=True)
class Analysis:
    """The cost of a model.

    Attributes:
        size: Height and width of the images in pixels.
        batch_size: Images in a batch, for memory and time.
        device: What memory and time were measured on.
        parts: In the order of the model.
        total: Their sum.
        images_per_second: Of `test_step`, so with normalisation and post-processing.
        optimizer: Its type, or None if the config has none.
    """

    size: tuple[int, int]
    batch_size: int
    device: str
    parts: tuple[Part, ...]
    total: Part
    images_per_second: float
    optimizer: str | None


def analyze_model(
    config: Config,
    *,
    size: tuple[int, int] | None = None,
    batch_size: int = 1,
    device: str = 'auto',
) -> Analysis:
    """Count and measure the model of a config, with random weights and images.

    Multiply-adds are counted on the CPU, whatever the device. The heads of a two-stage detector run
    on the proposals of its RPN; its mask head on the first 100 of them, or in a training step on
    those that match one of 10 random objects.

    Args:
        config: From `load_config`.
        size: Height and width of the images in pixels. Default: what the config trains on
            (`data_preprocessor.size`, `crop_size`), else the scale of its test pipeline.
        batch_size: Images in a batch, for memory and time.
        device: 'auto' for CUDA where there is one, or a device of torch.

    Raises:
        ValueError: The config is of another library, has no size, or does not train with this
            batch; or the device does not exist or is too small.
    """
    if batch_size < 1:
        raise ValueError(f'--batch-size takes 1 or more, got {batch_size}.')
    require_one_task(config)
    size = size or _default_size(config)
    target = choose_device(device)
    scope = config.get('default_scope')
    if scope not in _TASKS:
        raise ValueError(f'default_scope is {scope!r}; analyze knows {" and ".join(_TASKS)}.')
    init_default_scope(scope)
    package, forward = _TASKS[scope]
    model: Any = revert_sync_batchnorm(MODELS.build(_resized(config.model, size)))
    make = importlib.import_module(f'{package}.random_batch').random_batch
    batch = partial(make, model, size)
    try:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            counts = _counts(model, batch, forward, batch_size)
            return _measured(model.to(target), config, partial(batch, batch_size), counts)
    except torch.OutOfMemoryError as error:
        raise ValueError(
            f'{batch_size} images of {size[0]} x {size[1]} pixels do not fit into the memory of '
            f'{device}: lower --batch-size or --size.'
        ) from error
    except ValueError as error:
        if 'more than 1 value per channel' in str(error):
            error = ValueError(
                f'Batch norm of this model cannot train on a batch of {batch_size}: '
                'pass --batch-size 2 or more.'
            )
        raise error


def _counts(
    model: Any, batch: Callable[[int], dict[str, Any]], forward: str, batch_size: int
) -> list[Counter[str]]:
    """Return the multiply-adds of one image: without losses, and in a training step."""
    images = min(batch_size, 2)  # batch norm may need two
    training = multiply_adds_by_part(model, batch(images), 'loss')
    return [
        multiply_adds_by_part(model, batch(1), forward),
        Counter({part: count // images for part, count in training.items()}),
    ]


def _measured(
    model: Any, config: Config, batch: Callable[[], dict[str, Any]], counts: list[Counter[str]]
) -> Analysis:
    names = part_names(model)
    device = next(model.parameters()).device
    settings = config.get('optim_wrapper')
    mixed = settings and device.type == 'cuda'
    context = build_optim_wrapper(model, settings).optim_context(model) if mixed else nullcontext()
    saved = saved_bytes_by_part(model, batch(), context)
    state = _state_bytes(settings.optimizer) if settings else 0.0
    parts = []
    for name in [*names, _OTHER]:
        own = [p for key, p in model.named_parameters() if _owner(key, names) == name]
        trained = [p for p in own if p.requires_grad]
        gradients = sum(p.nbytes for p in trained)
        states = round(state * sum(p.numel() for p in trained))
        part = Part(
            name,
            sum(p.numel() for p in own),
            sum(p.numel() for p in trained),
            counts[0][name],
            counts[1][name],
            saved[name],
            sum(p.nbytes for p in own) + gradients + states + saved[name],
        )
        parts.append(part)
    figures = [list(vars(part).values())[1:] for part in parts]
    example = batch()
    return Analysis(
        size=tuple(example['inputs'][0].shape[1:]),
        batch_size=len(example['inputs']),
        device=torch.cuda.get_device_name(device) if device.type == 'cuda' else str(device),
        parts=tuple(part for part in parts if any(list(vars(part).values())[1:])),
        total=Part('total', *map(sum, zip(*figures, strict=True))),
        images_per_second=_images_per_second(model, example),
        optimizer=settings.optimizer.type if settings else None,
    )


def part_names(model: nn.Module) -> list[str]:
    """Return the names of the parts: the children of `model`, and the ViT of the backbone."""
    names = [name for name, _ in model.named_children()]
    if isinstance(getattr(getattr(model, 'backbone', None), 'vit', None), nn.Module):
        names.insert(names.index('backbone'), 'backbone.vit')
    return names


def multiply_adds_by_part(model: Any, batch: dict[str, Any], mode: str) -> Counter[str]:
    """Count those of a forward pass, which runs on the device of `model`.

    Compiled ops that torch does not dispatch, as mmcv's, are not seen: count on the CPU.

    Args:
        model: A model of mmseg or mmdet.
        batch: From `random_batch`.
        mode: 'predict', 'tensor' for the heads' outputs, or 'loss' for a training step, which
            includes auxiliary heads.
    """
    model.train(mode == 'loss')
    counted: Counter[str] = Counter()
    counter = FlopCounterMode(display=False, custom_mapping=_formulas())
    seen = 0

    def change(part: str) -> None:
        nonlocal seen
        total = counter.get_total_flops()
        counted[part] += total - seen
        seen = total

    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one op, of which torch counts nothing
    try:
        with torch.no_grad(), _current_part(model, change) as current, counter:
            model(**model.data_preprocessor(batch, True), mode=mode)
            change(current[-1])
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
    return Counter({part: flops // 2 for part, flops in counted.items()})


def saved_bytes_by_part(
    model: Any, batch: dict[str, Any], context: AbstractContextManager | None = None
) -> Counter[str]:
    """Return the bytes that a training step keeps between its forward and its backward pass.

    Storages count once, for the part that saved them first; parameters and buffers not at all. What
    gradient checkpointing computes again in the backward pass is not in it.
    """
    model.train()
    data = model.data_preprocessor(batch, True)
    known = {
        tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())
    }
    # Weak: what a branch without influence on the losses saves, such as accuracy, is freed at once.
    references: list[weakref.ref[_Saved]] = []

    def save(tensor: Tensor) -> _Saved:
        saved = _Saved(tensor, current[-1])
        references.append(weakref.ref(saved))
        return saved

    with (
        context or nullcontext(),
        _current_part(model, lambda part: None) as current,
        saved_tensors_hooks(save, lambda saved: saved.tensor),
    ):
        losses = model(**data, mode='loss')  # keeps the graph
    counted: Counter[str] = Counter()
    for saved in (reference() for reference in references):
        storage = saved.tensor.untyped_storage() if saved else None
        if saved and storage and storage.data_ptr() not in known:
            known.add(storage.data_ptr())
            counted[saved.part] += storage.nbytes()
    del losses
    gc.collect()
    return counted


@dataclass(eq=False)
class _Saved:
    tensor: Tensor
    part: str


@contextmanager
def _current_part(model: nn.Module, change: Callable[[str], None]) -> Iterator[list[str]]:
    """Yield a stack with the part that runs on top; call `change` with a part when it stops.

    Hooks on all modules, as adapters call methods of the ViT and losses those of heads.
    """
    names, stack = part_names(model), [_OTHER]

    def enter(part: str, *_: Any) -> None:
        change(stack[-1])
        stack.append(part)

    def leave(*_: Any) -> None:
        change(stack.pop())

    handles = []
    for name, module in model.named_modules():
        if part := _owner(name, names) if name else '':
            handles.append(module.register_forward_pre_hook(partial(enter, part)))
            handles.append(module.register_forward_hook(leave, always_call=True))
    try:
        yield stack
    finally:
        for handle in handles:
            handle.remove()


def _owner(name: str, names: list[str]) -> str:
    return next((one for one in names if f'{name}.'.startswith(f'{one}.')), _OTHER)


def _formulas() -> dict[Any, Callable[..., int]]:
    """Return FLOPs of ops that torch's counter ignores, from the shapes of their arguments."""
    aten = torch.ops.aten

    def attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
        return int(sdpa_flop_count(query, key, value))

    def sampling(*_: Any, out_shape: Any, **__: Any) -> int:
        return _SAMPLING_FLOPS * prod(out_shape)

    def gathering(table: Any, rows: Any, *_: Any, **__: Any) -> int:
        return _SAMPLING_FLOPS * prod(rows) * int(table[1]) // _CORNERS

    def deformable(image: Any, weight: Any, *_: Any, out_shape: Any, **__: Any) -> int:
        return conv_flop_count(image, weight, out_shape)

    return {
        aten._scaled_dot_product_flash_attention_for_cpu: attention,
        aten.grid_sampler_2d: sampling,
        aten._embedding_bag: gathering,
        aten._embedding_bag_forward_only: gathering,
        torch.ops.torchvision.deform_conv2d: deformable,
    }


def _state_bytes(optimizer: dict[str, Any]) -> float:
    """Return the bytes of state that an optimizer keeps for one parameter, by a step of it."""
    weight = nn.Parameter(torch.zeros(64, 64))
    weight.grad = torch.zeros_like(weight)
    built = OPTIMIZERS.build({**optimizer, 'params': [weight]})
    built.step()
    tensors = [one for one in built.state[weight].values() if isinstance(one, Tensor)]
    return sum(one.nbytes for one in tensors if one.numel() > 1) / weight.numel()


def _images_per_second(model: Any, batch: dict[str, Any]) -> float:
    model.eval()
    times: list[float] = []
    with torch.no_grad():
        model.test_step(batch)
        while sum(times) < _MIN_SECONDS:
            start = time.perf_counter()
            model.test_step(batch)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
    return len(batch['inputs']) / statistics.median(times)


def _resized(settings: ConfigDict, size: tuple[int, int]) -> ConfigDict:
    """Return a model's config that does not pad or resize images of `size` to another one."""
    settings = copy.deepcopy(settings)
    preprocessor = settings.get('data_preprocessor') or {}
    for one in (preprocessor, preprocessor.get('test_cfg') or {}):
        if one.get('size'):
            one['size'] = size
    if preprocessor.get('batch_augments'):
        preprocessor['batch_augments'] = None
    return settings


def _default_size(config: Config) -> tuple[int, int]:
    model = config.get('model', {})
    size = (model.get('data_preprocessor') or {}).get('size') or config.get('crop_size')
    if size is None and 'test_dataloader' in config:
        for dataset in innermost_datasets(config.test_dataloader.dataset):
            scales = [step.scale for step in dataset.get('pipeline', []) if 'scale' in step]
            size = scales[0][::-1] if scales else None  # mmcv's scales are (width, height)
    if size is None:
        raise ValueError('The config says no image size: pass --size HEIGHT WIDTH.')
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
