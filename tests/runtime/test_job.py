"""Many files: names of results, what is left out, what cannot be read, videos, a full disk."""

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from stub_predictor import REFUSED, StubPredictor, write_image

from vit_dense.runtime import PredictOptions, writing
from vit_dense.runtime.job import predict_files
from vit_dense.runtime.output import Output
from vit_dense.runtime.slices import SliceOptions
from vit_dense.runtime.tiles import TileOptions
from vit_dense.runtime.video import VideoReader, VideoWriter


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob('*') if path.is_file())


def run(inputs: Any, out: Path, kinds: str = 'masks', **options: Any) -> Any:
    task = options.pop('task', 'segmentation')
    skip = options.pop('skip_existing', False)
    truth = options.pop('annotations', None)
    model = StubPredictor(task)
    job = Output(out, tuple(kinds.split(',')), **options)
    summary = predict_files(model, inputs, job, skip_existing=skip, annotations=truth)
    return summary, model


def test_names_and_sub_folders_are_kept(tmp_path: Path) -> None:
    for name in ('a/1.png', 'b/1.png', 'b/1.bmp', '2.png'):
        write_image(tmp_path / 'in' / name, 1)
    summary, _ = run([tmp_path / 'in'], tmp_path / 'out', 'masks,overlays,json')
    assert summary.predicted == 4
    names = ['2', 'a/1', 'b/1.bmp', 'b/1.png']
    assert files(tmp_path / 'out') == sorted(
        f'{kind}/{name}{end}'
        for kind, end in (('json', '.json'), ('masks', '.png'), ('overlays', '.png'))
        for name in names
    )
    described = json.loads((tmp_path / 'out/json/a/1.json').read_text())
    assert described['areas'] == {'sky': 1.0}
    mask = cv2.imread(str(tmp_path / 'out/masks/a/1.png'), cv2.IMREAD_COLOR)
    assert mask[0, 0].tolist() == [60, 50, 40]  # BGR of the palette


def test_two_inputs_of_one_name_are_refused(tmp_path: Path) -> None:
    inputs = [write_image(tmp_path / folder / '1.png', 1) for folder in 'ab']
    with pytest.raises(ValueError, match=r'would both be written as 1\.png'):
        run(inputs, tmp_path / 'out')


def test_bad_files_are_listed_and_the_others_done(tmp_path: Path) -> None:
    write_image(tmp_path / 'in/1.png', 1)
    write_image(tmp_path / 'in/3.png', REFUSED)
    (tmp_path / 'in/2.png').write_bytes(b'<html>')
    summary, _ = run([tmp_path / 'in'], tmp_path / 'out')
    assert summary.predicted == 1
    assert [error.message.split(': ')[1] for error in summary.errors] == [
        'this is a web page (HTML), not an image',
        'the model failed',
    ]
    assert files(tmp_path / 'out') == ['masks/1.png']


def test_a_stopped_run_goes_on(tmp_path: Path) -> None:
    for index in range(4):
        write_image(tmp_path / f'in/{index}.png', 1)
    run([tmp_path / 'in/0.png'], tmp_path / 'out', 'masks,overlays')
    run([tmp_path / 'in/1.png'], tmp_path / 'out', 'masks')  # one of two files
    inputs = [tmp_path / 'in']
    summary, model = run(inputs, tmp_path / 'out', 'masks,overlays', skip_existing=True)
    assert (summary.skipped, summary.predicted, sum(model.batches)) == (1, 3, 3)
    summary, model = run(inputs, tmp_path / 'out', 'masks,overlays', skip_existing=True)
    assert (summary.skipped, summary.predicted, model.batches) == (4, 0, [])


def test_results_inside_of_the_input_are_no_inputs(tmp_path: Path) -> None:
    write_image(tmp_path / '1.png', 1)
    for _ in range(2):
        summary, _ = run([tmp_path], tmp_path / 'out', 'masks,overlays')
        assert summary.predicted == 1


def test_objects_in_one_file(tmp_path: Path) -> None:
    for name in ('000000000139.png', '000000000285.png'):
        write_image(tmp_path / 'in' / name, 1)
    _, _ = run([tmp_path / 'in'], tmp_path / 'out', 'masks,json', task='detection')
    merged = json.loads((tmp_path / 'out/predictions.json').read_text())
    assert [one['image_id'] for one in merged] == [139, 139, 285, 285]
    assert merged[2]['file_name'] == '000000000285.png'
    mask = cv2.imread(str(tmp_path / 'out/masks/000000000139.png'), cv2.IMREAD_UNCHANGED)
    assert np.unique(mask).tolist() == [0, 1]  # the score of the second is below 0.3


def test_objects_of_an_earlier_run_are_left_out(tmp_path: Path) -> None:
    for name in ('1.png', '2.png'):
        write_image(tmp_path / 'in' / name, 1)
    run([tmp_path / 'in'], tmp_path / 'out', 'json', task='detection')
    (tmp_path / 'in/1.png').write_bytes(b'')
    run([tmp_path / 'in'], tmp_path / 'out', 'json', task='detection')
    merged = json.loads((tmp_path / 'out/predictions.json').read_text())
    assert {one['file_name'] for one in merged} == {'2.png'}


def test_ids_are_those_of_the_annotations(tmp_path: Path) -> None:
    for name in ('a/1.png', 'b/1.png', 'b/2.png'):
        write_image(tmp_path / 'in' / name, 1)
    run([tmp_path / 'in'], tmp_path / 'out', 'json', task='detection')
    counted = json.loads((tmp_path / 'out/predictions.json').read_text())
    assert [one['image_id'] for one in counted] == [1, 1, 2, 2, 3, 3]  # two are called 1
    names = {'a/1.png': 11, 'b/1.png': 12, 'b/2.png': 7}
    truth = {
        'images': [{'file_name': name, 'id': number} for name, number in names.items()],
        'categories': [{'name': n, 'id': i} for n, i in (('car', 3), ('road', 90), ('sky', 4))],
    }
    path = tmp_path / 'truth.json'
    path.write_text(json.dumps(truth))
    inputs, out = [tmp_path / 'in'], tmp_path / 'out'
    run(inputs, out, 'json', task='detection', annotations=path)
    written = json.loads((tmp_path / 'out/predictions.json').read_text())
    assert [one['image_id'] for one in written] == [11, 11, 12, 12, 7, 7]
    assert [one['category_id'] for one in written[:2]] == [3, 90]
    truth['images'].pop()
    path.write_text(json.dumps(truth))
    with pytest.raises(ValueError, match=r'lacks 1 of 3 images, such as b/2\.png'):
        run(inputs, out, 'json', task='detection', annotations=path)
    truth['categories'].pop()
    path.write_text(json.dumps(truth))
    with pytest.raises(ValueError, match='lacks classes of the model: sky'):
        run(inputs, out, 'json', task='detection', annotations=path)
    path.write_text('[]')
    with pytest.raises(ValueError, match='not a file of COCO'):
        run(inputs, out, 'json', task='detection', annotations=path)


def test_threshold_and_classes(tmp_path: Path) -> None:
    write_image(tmp_path / 'a.png', 1)
    _, _ = run([tmp_path / 'a.png'], tmp_path / 'o', 'json', task='detection', score_threshold=0.5)
    (entry,) = json.loads((tmp_path / 'o/predictions.json').read_text())
    assert (entry['image_id'], entry['category_name']) == (1, 'car')
    _, _ = run([tmp_path / 'a.png'], tmp_path / 'o', 'json', task='detection', classes=('road',))
    (entry,) = json.loads((tmp_path / 'o/predictions.json').read_text())
    assert entry['category_name'] == 'road'
    with pytest.raises(ValueError, match="no class 'tree'"):
        run([tmp_path / 'a.png'], tmp_path / 'o', classes=('tree',))


def test_overlay_of_some_classes(tmp_path: Path) -> None:
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[:, 30:, 0] = 2
    cv2.imwrite(str(tmp_path / 'a.png'), picture)
    run([tmp_path / 'a.png'], tmp_path / 'o', 'overlays,masks', classes=('car',))
    drawn = cv2.imread(str(tmp_path / 'o/overlays/a.png'))
    assert drawn[0, 0].tolist() == [0, 0, 0]
    assert drawn[0, 59].tolist() == [1, 0, 120]
    mask = cv2.imread(str(tmp_path / 'o/masks/a.png'))
    assert mask[0, 0].tolist() == [30, 20, 10]  # masks are whole


def test_unknown_kind(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='give one or more of masks,overlays,json'):
        Output(tmp_path, ('mask',))


def test_a_full_disk_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for index in range(3):
        write_image(tmp_path / f'in/{index}.png', 1)
    written: list[Path] = []
    original: Callable[..., None] = writing.write_bytes

    def fill_up(path: Path, content: bytes) -> None:
        if written:
            raise OSError(errno.ENOSPC, 'No space left on device')
        written.append(path)
        original(path, content)

    monkeypatch.setattr(writing, 'write_bytes', fill_up)
    with pytest.raises(ValueError, match=r'No space left.*--skip-existing'):
        run([tmp_path / 'in'], tmp_path / 'out')
    assert files(tmp_path / 'out') == ['masks/0.png']


@pytest.fixture
def video(tmp_path: Path) -> Path:
    with VideoWriter(tmp_path / 'clip.mp4', 12.0) as writer:
        for _ in range(5):
            writer.write(np.full((48, 64, 3), (0, 0, 200), np.uint8))
    return tmp_path / 'clip.mp4'


def test_a_video_becomes_a_video(tmp_path: Path, video: Path) -> None:
    summary, _ = run([video], tmp_path / 'out', 'masks,overlays,json')
    assert summary.predicted == 5
    expected = ['json/clip.json', *(f'masks/clip/{i:06d}.png' for i in range(5))]
    assert files(tmp_path / 'out') == [*expected, 'overlays/clip.mp4']
    drawn = VideoReader(tmp_path / 'out/overlays/clip.mp4')
    assert (drawn.rate, drawn.size, len(list(drawn))) == (12.0, (48, 64), 5)
    described = json.loads((tmp_path / 'out/json/clip.json').read_text())
    assert [frame['frame'] for frame in described['frames']] == list(range(5))
    summary, _ = run([video], tmp_path / 'out', 'overlays', skip_existing=True)
    assert (summary.skipped, summary.predicted) == (1, 0)


@pytest.mark.parametrize('content', [b'', b'no video at all'])
def test_a_video_without_frames(tmp_path: Path, content: bytes) -> None:
    (tmp_path / 'clip.mp4').write_bytes(content)
    write_image(tmp_path / 'a.png', 1)
    summary, _ = run([tmp_path / 'clip.mp4', tmp_path / 'a.png'], tmp_path / 'out')
    assert summary.predicted == 1
    assert [error.message for error in summary.errors] == [
        f'{tmp_path}/clip.mp4: a video without frames, or of a codec OpenCV cannot read'
    ]


def test_a_video_that_stops_half_way_leaves_nothing(tmp_path: Path) -> None:
    def stop() -> None:
        with VideoWriter(tmp_path / 'a.mp4', 5.0) as writer:
            writer.write(np.zeros((48, 64, 3), np.uint8))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    assert files(tmp_path) == []


def test_frames_are_read_as_they_are_needed(video: Path) -> None:
    results = StubPredictor().predict(iter(VideoReader(video)), batch_size=1)
    assert next(results).labels.shape == (48, 64)
    assert PredictOptions().batch_size == 8


def test_the_frames_of_a_video_are_sliced(tmp_path: Path, video: Path) -> None:
    counts = []
    for slices in (None, SliceOptions(slice_size=20, whole=False)):
        out = tmp_path / f'out{len(counts)}'
        predict_files(StubPredictor('detection'), [video], Output(out, ('json',)), slices=slices)
        frames = json.loads((out / 'json/clip.json').read_text())['frames']
        counts.append(sum(one['score'] > 0.3 for one in frames[0]['detections']))
    assert counts[0] == 1
    assert counts[1] > 1  # one in each slice


def test_videos_are_not_tiled(tmp_path: Path, video: Path) -> None:
    output = Output(tmp_path / 'out', ('masks',))
    summary = predict_files(StubPredictor(), [video], output, tiles=TileOptions())
    assert [error.message for error in summary.errors] == [
        f'{video}: --tile is for images. Predict videos without it.'
    ]
    assert files(tmp_path / 'out') == []


def test_a_video_that_is_cut_off_is_told(tmp_path: Path) -> None:
    whole, cut = tmp_path / 'whole.avi', tmp_path / 'cut.avi'
    with_frames = cv2.VideoWriter(str(whole), cv2.VideoWriter.fourcc(*'MJPG'), 5, (64, 48))
    for index in range(20):
        with_frames.write(np.full((48, 64, 3), index, np.uint8))
    with_frames.release()
    content = whole.read_bytes()
    cut.write_bytes(content[: len(content) * 2 // 3])
    summary, _ = run([whole, cut], tmp_path / 'out')
    (note,) = summary.notes
    assert note.startswith(f'{cut}: {summary.predicted - 20} of 20 frames')


def test_objects_of_two_images_of_one_number_are_apart(tmp_path: Path) -> None:
    for name in ('a/7.png', 'b/7.png'):
        write_image(tmp_path / 'in' / name, 1)
    run([tmp_path / 'in'], tmp_path / 'out', 'json', task='detection')
    entries = json.loads((tmp_path / 'out/predictions.json').read_text())
    assert {(e['image_id'], e['file_name']) for e in entries} == {(1, 'a/7.png'), (2, 'b/7.png')}


@pytest.mark.parametrize('threshold', [float('nan'), 30.0, -1.0])
def test_a_threshold_is_a_probability(tmp_path: Path, threshold: float) -> None:
    with pytest.raises(ValueError, match=r'give a number in 0\.\.1'):
        Output(tmp_path, ('masks',), threshold)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / 'file').touch()
    write_image(tmp_path / '1.png', 1)
    with pytest.raises(ValueError, match=r'--out .*file: File exists'):
        run([tmp_path / '1.png'], tmp_path / 'file')


@pytest.mark.parametrize('options', [{'tile': -5}, {'tile': 0}, {'batch_size': 0}])
def test_impossible_tiles(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match='at least 1'):
        TileOptions(**options)
