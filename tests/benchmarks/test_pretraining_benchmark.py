"""The pretraining benchmark's own parts: shares of the labels, arms, resuming and the table."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from mmengine.config import Config

ROOT = Path(__file__).parents[2]
START = {'checkpoint': 'vit.pth', 'model_name': 'test_vit', 'model_kwargs': {'depth': 2}}


@pytest.fixture
def pretraining(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / 'benchmarks')
    monkeypatch.delitem(sys.modules, 'pretraining', raising=False)
    import pretraining

    return pretraining


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / 'data/images/training'
    folder.mkdir(parents=True)
    for index in range(10):
        (folder / f'{index}.png').touch()
    return tmp_path / 'data'


def test_shares_are_those_of_the_seed_and_nested(pretraining, data):
    folder = data / 'images/training'
    small, again, other = (pretraining.choose_images(folder, 0.3, seed) for seed in (0, 0, 1))
    assert small == again != other
    assert len(small) == 3
    assert set(small) < set(pretraining.choose_images(folder, 0.6, 0))
    everything = [f'{index}.png' for index in range(10)]
    assert pretraining.choose_images(folder, 1.0, 5) == everything
    assert len(pretraining.choose_images(folder, 0.01, 0)) == 1


def test_arms_have_the_same_images_and_finished_runs_are_kept(
    pretraining, data, tmp_path, monkeypatch, capsys
):
    seen = []

    def segment(args, checkpoint, folder, seed, *, options):
        names = Path(options['train_dataloader.dataset.ann_file']).read_text().split()
        seen.append((folder.parent.name, seed, checkpoint, names, args.model_name))
        score = 10.0 * len(names) + seed + (2.5 if checkpoint else 0)
        return {'mIoU': score, 'curve': [1.0, score]}

    pretrained = []

    def pretrain(args):
        pretrained.append(args.images)
        return {**START, 'iterations': 7, 'loss': 0.5, 'probe/knn': 80.0}

    monkeypatch.setattr(pretraining, 'segment', segment)
    monkeypatch.setattr(pretraining, 'pretrain', pretrain)
    argv = f'pretraining.py --images a b --data-root {data} --work-dir {tmp_path}/work --seeds 2 '
    argv += '--iterations 4 --validations 2 --fractions 0.3 1'
    monkeypatch.setattr(sys, 'argv', argv.split())
    pretraining.main()
    table = capsys.readouterr().out
    assert '| 30% | 3 | 30.50 ± 0.71 | 33.00 ± 0.71 | +2.50 +2.50 | 2.50 ± 0.00 |' in table
    assert '| 100% | 10 | 100.50 ± 0.71 |' in table
    assert 'loss 0.5, probe/knn 80' in table
    assert (tmp_path / 'work/curves.png').is_file()
    for without, with_ in zip(seen[::2], seen[1::2], strict=True):
        assert (without[2], with_[2]) == (None, 'vit.pth')
        assert without[:2] + without[3:] == with_[:2] + with_[3:]
    assert [one[0] for one in seen] == ['labels-30'] * 4 + ['labels-100'] * 4
    pretraining.main()
    assert (len(seen), len(pretrained)) == (8, 1)
    monkeypatch.setattr(sys, 'argv', [*argv.split(), '--lr', '1'])
    with pytest.raises(SystemExit, match='other settings'):
        pretraining.main()


def test_minutes_become_epochs_and_a_stopped_pretraining_goes_on(
    pretraining, data, tmp_path, monkeypatch
):
    seen = []

    def train_model(config, seed, resume=None):
        seen.append((Path(config.work_dir).name, config.max_epochs, config.warm_up, resume))
        work = Path(config.work_dir)
        (work / '1/vis_data').mkdir(parents=True)
        lines = [{'loss': 2.0, 'lr': 1.0, 'iter': 1, 'step': 1}, {'probe/knn': 70.0, 'step': 1}]
        (work / '1/vis_data/scalars.json').write_text('\n'.join(map(json.dumps, lines)))
        (work / 'last_checkpoint').write_text('epoch_1.pth')
        # two epochs of two steps; the first is slow
        hub = SimpleNamespace(get_scalar=lambda name: SimpleNamespace(data=[[9, 9, 2, 4]]))
        return SimpleNamespace(train_dataloader=[0, 0], message_hub=hub)

    monkeypatch.setattr(pretraining, 'train_model', train_model)
    argv = f'pretraining.py --images {data} --data-root {data} --work-dir {tmp_path}/work'
    config = str(ROOT / 'configs/pretraining/mae_vit-t8-cpu_1xb32-200e_images-128x128.py')
    argv += f' --minutes 10 --pretraining-config {config}'
    monkeypatch.setattr(sys, 'argv', argv.split())
    result = pretraining.pretrain(pretraining.parse_args())
    # 600 s / (2 steps of 3 s on average)
    assert seen == [('run', 2, 1, None), ('pretraining', 100, 5, 'auto')]
    assert (result['checkpoint'], result['loss'], result['probe/knn']) == ('epoch_1.pth', 2, 70)
    vit = Config.fromfile(config).model.vit
    assert (result['model_name'], result['model_kwargs']) == (vit.model_name, vit.model_kwargs)
