"""Options of the tools become the config that mmengine runs."""

import os
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from vit_dense.apis import evaluation, load_config, training
from vit_dense.cli.options import run_tool, tool_parser


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Config]:
    """Configs that a runner would have been built from."""
    monkeypatch.chdir(tmp_path)
    seen: list[Config] = []

    class Runner:
        """Notes its config and does nothing."""

        def train(self) -> None:
            """Does nothing."""

        def test(self) -> dict[str, float]:
            return {'mIoU': 50.0}

    def build(config: Config) -> Runner:
        seen.append(config)
        return Runner()

    monkeypatch.setattr(training, 'build_runner', build)
    monkeypatch.setattr(evaluation, 'build_runner', build)
    return seen


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def wrapper(**settings: object) -> Config:
    return Config({'optim_wrapper': {'type': 'OptimWrapper', **settings}})


def test_work_dir_is_the_option_then_the_configs_then_the_name(tmp_path: Path) -> None:
    plain = write(tmp_path / 'plain.py', 'a = 1')
    named = write(tmp_path / 'named.py', "work_dir = 'mine'")
    assert load_config(plain).work_dir == 'work_dirs/plain'
    assert load_config(named).work_dir == 'mine'
    assert load_config(named, work_dir='given').work_dir == 'given'


def test_cfg_options_and_launcher_reach_the_config(tmp_path: Path) -> None:
    path = write(tmp_path / 'a.py', 'model = dict(width=1, depth=2)')
    config = load_config(path, cfg_options={'model.width': 5}, launcher='pytorch')
    assert config.model == {'width': 5, 'depth': 2}
    assert config.launcher == 'pytorch'


def test_options_that_no_config_has(tmp_path: Path) -> None:
    path = write(tmp_path / 'a.py', 'train_dataloader = dict(batch_size=1)')
    with pytest.raises(ValueError, match=r"no 'train_dataloder'. Did you mean train_dataloader"):
        load_config(path, cfg_options={'train_dataloder.batch_size': 2})
    config = load_config(path, cfg_options={'randomness.seed': 3, 'custom_hooks': []})
    assert config.randomness == {'seed': 3}, 'what the runner takes, though the file has it not'
    options = {'sharding.param_dtype': 'bfloat16', 'find_unused_parameters': True}
    assert load_config(path, cfg_options=options).sharding == {'param_dtype': 'bfloat16'}


@pytest.mark.parametrize('key', ['hooks.5.interval', 'hooks.first.interval', 'hooks.0.kind.name'])
def test_options_that_lead_nowhere(tmp_path: Path, key: str) -> None:
    path = tmp_path / 'mine.py'
    path.write_text("hooks = [dict(kind='a')]")
    with pytest.raises(ValueError, match=f'--cfg-options {key}=3: '):
        load_config(str(path), cfg_options={key: 3})


def test_a_base_that_does_not_exist(tmp_path: Path) -> None:
    path = write(tmp_path / 'a.py', "_base_ = './vit_maskrcnn_coco.py'")
    with pytest.raises(ValueError, match=r"vit_maskrcnn_coco\.py.*'vit_dense::NAME'"):
        load_config(path)


def test_a_tool_gets_its_config_and_its_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / 'a.py', 'width = 1')
    parser = tool_parser('A tool.')
    parser.add_argument('--own', type=int)
    seen: list[tuple] = []

    def work(config: Config, args: Namespace) -> None:
        seen.append((config.width, config.work_dir, config.launcher, args.own))
        seen.append(os.environ['LOCAL_RANK'])

    def start(*options: str) -> int:
        monkeypatch.setattr('sys.argv', ['tool.py', *options])
        return run_tool(parser, work)

    monkeypatch.delenv('LOCAL_RANK', raising=False)
    shared = ('--work-dir', 'mine', '--cfg-options', 'width=5', '--launcher', 'pytorch')
    assert start(path, *shared, '--own', '7', '--local-rank', '3') == 0
    # torchrun sets the variable, and passes no option.
    monkeypatch.setenv('LOCAL_RANK', '1')
    assert start(path) == 0
    assert seen == [(5, 'mine', 'pytorch', 7), '3', (1, 'work_dirs/a', 'none', None), '1']
    assert start(path.replace('a.py', 'b.py')) == 2
    assert 'Config not found' in capfd.readouterr().err


def test_an_interrupted_start_has_no_stack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupt(config: Config, args: Namespace) -> None:
        raise KeyboardInterrupt

    path = write(tmp_path / 'a.py', 'width = 1')
    monkeypatch.setattr('sys.argv', ['tool.py', path])
    monkeypatch.setenv('LOCAL_RANK', '0')
    assert run_tool(tool_parser('A tool.'), interrupt) == 130
    assert capfd.readouterr().err == '\nInterrupted.\n'
    monkeypatch.setattr('sys.argv', ['tool.py', path, '--debug'])
    with pytest.raises(KeyboardInterrupt):
        run_tool(tool_parser('A tool.'), interrupt)


def test_missing_config_names_its_neighbours(tmp_path: Path) -> None:
    write(tmp_path / 'vit_upernet_demo.py', '')
    write(tmp_path / 'e.py', '')
    with pytest.raises(ValueError, match=r'not found.*nearest names .*: vit_upernet_demo\.py\.$'):
        load_config(str(tmp_path / 'vit_uppernet_demo.py'))
    with pytest.raises(ValueError, match=r'there are: e\.py, vit_upernet_demo\.py\.$'):
        load_config(str(tmp_path / 'absent_config.py'))
    with pytest.raises(ValueError, match=r'has no \.json file\.$'):
        load_config(str(tmp_path / 'absent_config.json'))
    with pytest.raises(ValueError, match='does not exist either'):
        load_config(str(tmp_path / 'nowhere' / 'a.py'))


def test_imports_beside_base_are_one_error(tmp_path: Path) -> None:
    path = write(tmp_path / 'a.py', "from torch import nn\n_base_ = './b.py'\n")
    write(tmp_path / 'b.py', 'x = 1\n')
    with pytest.raises(ValueError, match=r'(?s)a\.py: .*read_base.*custom_imports'):
        load_config(str(path))


def test_resume(built: list[Config], tmp_path: Path) -> None:
    checkpoint = write(tmp_path / 'iter_4.pth', '')
    training.train_model(Config({'load_from': 'other', 'work_dir': 'new'}), resume='auto')
    training.train_model(Config(), resume=checkpoint)
    training.train_model(Config({'resume': False, 'load_from': 'kept'}))
    assert [(one.resume, one.load_from) for one in built] == [
        (True, None),
        (True, checkpoint),
        (False, 'kept'),
    ]
    with pytest.raises(ValueError, match=r'resume from not found.*iter_4\.pth'):
        training.train_model(Config(), resume=str(tmp_path / 'iter_5.pth'))


def test_seed_and_deterministic(built: list[Config]) -> None:
    training.train_model(Config(), seed=3, deterministic=True)
    training.train_model(Config({'randomness': {'seed': 9}}))
    training.train_model(Config(), deterministic=True)
    assert [one.randomness for one in built] == [
        {'seed': 3, 'deterministic': True},
        {'seed': 9},
        # The runner insists on the key.
        {'seed': None, 'deterministic': True},
    ]


def test_resuming_needs_no_pretrained_weights(built: list[Config], tmp_path: Path) -> None:
    def config() -> Config:
        vit = {'type': 'TimmViT', 'pretrained': True}
        return Config({'model': {'backbone': {'vit': vit}}, 'work_dir': str(tmp_path)})

    training.train_model(config(), resume='auto')  # nothing to go on from yet
    torch.save({'meta': {'iter': 4}, 'optimizer': {}}, tmp_path / 'iter_4.pth')
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'iter_4.pth'))
    training.train_model(config())
    training.train_model(config(), resume='auto')
    training.train_model(config(), resume=str(tmp_path / 'iter_4.pth'))
    assert [one.model.backbone.vit.pretrained for one in built] == [True, True, False, False]


def test_amp_is_bfloat16_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    config = wrapper(clip_grad={'max_norm': 1})
    training.enable_amp(config, 'bfloat16')
    assert config.optim_wrapper == {
        'type': 'AmpOptimWrapper',
        'clip_grad': {'max_norm': 1},
        'dtype': 'bfloat16',
        'loss_scale': 1.0,
    }
    half = wrapper()
    training.enable_amp(half, 'float16')
    assert half.optim_wrapper.loss_scale == 'dynamic'
    own = Config({'optim_wrapper': {'type': 'AmpOptimWrapper', 'dtype': 'float16'}})
    training.enable_amp(own, 'bfloat16')
    assert own.optim_wrapper.dtype == 'float16'
    with pytest.raises(ValueError, match='DeepSpeed'):
        training.enable_amp(Config({'optim_wrapper': {'type': 'DeepSpeed'}}), 'bfloat16')
    with pytest.raises(ValueError, match="got 'int8'"):
        training.enable_amp(wrapper(), 'int8')


def test_amp_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(ValueError, match='--amp needs a GPU'):
        training.enable_amp(wrapper(), 'bfloat16')


def test_auto_scale_lr(built: list[Config]) -> None:
    config = Config({'auto_scale_lr': {'enable': False, 'base_batch_size': 16}})
    training.train_model(config, auto_scale_lr=True)
    assert built[0].auto_scale_lr.enable is True
    with pytest.raises(ValueError, match='base_batch_size=16'):
        training.train_model(Config(), auto_scale_lr=True)


@pytest.fixture
def checkpoint(tmp_path: Path) -> str:
    return write(tmp_path / 'best.pth', '')


def test_evaluation_loads_the_checkpoint(built: list[Config], checkpoint: str) -> None:
    metrics = evaluation.evaluate_model(Config({'resume': True}), checkpoint)
    assert metrics == {'mIoU': 50.0}
    assert (built[0].load_from, built[0].resume) == (checkpoint, False)
    with pytest.raises(ValueError, match=r'Checkpoint not found: .*bets\.pth.*best\.pth'):
        evaluation.evaluate_model(Config(), checkpoint.replace('best', 'bets'))


def test_pictures_go_where_show_dir_says(built: list[Config], checkpoint: str) -> None:
    ours = Config({'default_hooks': {'pictures': {'type': 'SegPicturesHook', 'count': 8}}})
    evaluation.evaluate_model(ours, checkpoint, show_dir='shown')
    assert built[0].default_hooks.pictures == {
        'type': 'SegPicturesHook',
        'count': None,
        'folder': 'shown',
    }
    stock = Config({'default_scope': 'mmdet', 'visualizer': {'type': 'DetLocalVisualizer'}})
    evaluation.evaluate_model(stock, checkpoint, show_dir='shown', show=True, wait_time=1)
    assert built[1].visualizer.save_dir == 'shown'
    hook = built[1].default_hooks.visualization
    assert (hook.type, hook.draw, hook.show, hook.wait_time) == (
        'DetVisualizationHook',
        True,
        True,
        1,
    )
    with pytest.raises(ValueError, match='default_scope=None'):
        evaluation.evaluate_model(Config(), checkpoint, show=True)


def test_tta_wraps_the_model(built: list[Config], checkpoint: str) -> None:
    config = Config(
        {
            'model': {'type': 'EncoderDecoder'},
            'tta_model': {'type': 'SegTTAModel'},
            'tta_pipeline': [{'type': 'TestTimeAug'}],
            'test_dataloader': {'dataset': {'type': 'RepeatDataset', 'dataset': {'pipeline': []}}},
        }
    )
    evaluation.evaluate_model(config, checkpoint, tta=True)
    assert built[0].model == {'type': 'SegTTAModel', 'module': {'type': 'EncoderDecoder'}}
    inner = built[0].test_dataloader.dataset.dataset
    assert inner.pipeline == [{'type': 'TestTimeAug'}]
    with pytest.raises(ValueError, match='tta_model and tta_pipeline'):
        evaluation.evaluate_model(Config(), checkpoint, tta=True)


def test_out_is_a_folder_of_label_maps_or_a_pickle(built: list[Config], checkpoint: str) -> None:
    evaluation.evaluate_model(
        Config({'test_evaluator': {'type': 'IoUMetric'}}), checkpoint, out='maps'
    )
    assert built[0].test_evaluator.output_dir == 'maps'
    boxes = {'default_scope': 'mmdet', 'test_evaluator': {'type': 'CocoMetric'}}
    evaluation.evaluate_model(Config(boxes), checkpoint, out='raw.pkl')
    assert built[1].test_evaluator[1] == {'type': 'DumpDetResults', 'out_file_path': 'raw.pkl'}
    with pytest.raises(ValueError, match=r'--out maps.*\.pkl'):
        evaluation.evaluate_model(Config(boxes), checkpoint, out='maps')


def test_a_file_that_is_no_config_is_named(tmp_path: Path) -> None:
    (tmp_path / 'notes.txt').write_text('model = 1')
    with pytest.raises(ValueError, match=r'notes\.txt is no config: its name ends in one of \.py'):
        load_config(str(tmp_path / 'notes.txt'))
