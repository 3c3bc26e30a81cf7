"""Objects in slices are found once, in pixels of the whole image."""

import builtins

import cv2
import numpy as np
import pytest
from function_predictor import FunctionPredictor

from vit_dense.runtime import Item, slices
from vit_dense.runtime.slices import SliceOptions, iter_sliced, predict_sliced

# x1, y1, x2, y2 on a 200 x 260 image, in slices of 100 that share 20 pixels: inside one slice, on
# a border, on a corner of four slices, at the last pixel, and two of different classes at a place.
BOXES = [(10, 10, 20, 22), (74, 30, 88, 40), (76, 74, 90, 92), (250, 190, 260, 200)]
CLASSES = [1, 2, 1, 0]
SIZE = 200, 260


def draw(boxes, classes=None) -> np.ndarray:
    """Blue is the number of the object from 1, green its class."""
    image = np.zeros((*SIZE, 3), np.uint8)
    for number, (x1, y1, x2, y2) in enumerate(boxes, 1):
        image[y1:y2, x1:x2, 0] = number * 10
        image[y1:y2, x1:x2, 1] = classes[number - 1] if classes else 0
    return image


def find(image: np.ndarray):
    """Return what is visible of each object; parts are less certain than the whole."""
    boxes, scores, labels, masks = [], [], [], []
    for number in range(10, 100, 10):
        mask = np.abs(image[..., 0].astype(int) - number) < 1
        if mask.any():
            x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
            boxes.append((x, y, x + width, y + height))
            scores.append(0.5 + min(width * height, 4000) / 10000 + number / 10000)
            labels.append(int(image[..., 1][mask][0]))
            masks.append(mask)
    return boxes, scores, labels, np.array(masks).reshape(-1, *image.shape[:2])


def predictor(function=find) -> FunctionPredictor:
    return FunctionPredictor(function, task='detection')


def test_objects_across_borders_are_found_once():
    image = draw(BOXES, CLASSES)
    model = predictor()
    result = predict_sliced(model, image, SliceOptions(slice_size=100, batch_size=4))
    # 3 x 3 slices and the whole image
    assert model.batches == [4, 4, 1, 1]  # of equal sizes
    assert sorted(map(tuple, result.boxes.tolist())) == sorted(BOXES)
    for box, label, score in zip(result.boxes, result.labels, result.scores, strict=True):
        number = BOXES.index(tuple(box.tolist()))
        assert label == CLASSES[number]
        area = (box[2] - box[0]) * (box[3] - box[1])
        assert score == pytest.approx(0.5 + area / 10000 + (number + 1) / 1000)
    assert (np.diff(result.scores) <= 0).all()
    assert result.size == SIZE


def test_masks_are_united_in_pixels_of_the_image():
    image = draw(BOXES, CLASSES)
    result = predict_sliced(predictor(), image, SliceOptions(slice_size=100))
    for box, mask in zip(result.boxes, result.masks, strict=True):
        number = BOXES.index(tuple(box.tolist()))
        np.testing.assert_array_equal(mask, image[..., 0] == 10 * (number + 1))
    assert (
        predict_sliced(predictor(), image, SliceOptions(slice_size=100, masks=False)).masks is None
    )


def test_an_object_larger_than_a_slice_needs_the_whole_image():
    large = [(20, 20, 240, 60)]
    image = draw(large)
    result = predict_sliced(predictor(), image, SliceOptions(slice_size=100))
    assert result.boxes.tolist() == [list(large[0])]
    np.testing.assert_array_equal(result.masks[0], image[..., 0] > 0)
    parts = predict_sliced(predictor(), image, SliceOptions(slice_size=100, whole=False))
    assert len(parts) == 3


def test_parts_surer_than_the_whole_do_not_survive_it():
    def surer_parts(image):
        boxes, scores, labels, masks = find(image)
        return boxes, [0.95 if image.shape[1] == 100 else 0.6] * len(scores), labels, masks

    large = [(20, 20, 240, 60)]
    result = predict_sliced(predictor(surer_parts), draw(large), SliceOptions(slice_size=100))
    assert result.boxes.tolist() == [list(large[0])]
    assert result.scores.tolist() == pytest.approx([0.95])


def test_objects_that_overlap_in_a_slice_stay_apart():
    """A small one in front of a large one of its class, both across the border at 80..100."""
    large, small = (70, 20, 130, 80), (84, 40, 96, 60)

    def both(image):
        boxes, scores, labels, _ = find(image)
        visible = image[..., 2] > 0
        if visible.any():
            x, y, width, height = cv2.boundingRect(visible.astype(np.uint8))
            boxes, labels = [*boxes, (x, y, x + width, y + height)], [*labels, 0]
            scores = [*scores, 0.45]
        return boxes, scores, labels, None

    image = draw([large])
    image[40:60, 84:96, 2] = 1
    whole = predictor(both).predict(image)
    result = predict_sliced(predictor(both), image, SliceOptions(slice_size=100))
    assert result.boxes.tolist() == whole.boxes.tolist() == [list(large), list(small)]
    one = predict_sliced(predictor(both), image, SliceOptions(slice_size=300))
    assert one.boxes.tolist() == whole.boxes.tolist()


def test_classes_are_not_merged():
    def both(image):
        boxes, scores, *_ = find(image)
        return boxes * 2, [*scores, *scores], [0] * len(boxes) + [1] * len(boxes), None

    result = predict_sliced(predictor(both), draw(BOXES[:1]), SliceOptions(slice_size=100))
    assert result.boxes.tolist() == [list(BOXES[0])] * 2
    assert sorted(result.labels.tolist()) == [0, 1]


def test_the_whole_of_a_large_image_is_reduced(monkeypatch):
    monkeypatch.setattr(slices, '_WHOLE_EDGE', 130)
    model = predictor()
    large = [(20, 20, 240, 60)]
    result = predict_sliced(model, draw(large), SliceOptions(slice_size=100))
    assert model.images[-1].shape == (100, 130, 3)
    assert result.boxes.tolist() == [list(large[0])]
    np.testing.assert_array_equal(result.masks[0], draw(large)[..., 0] > 0)


def test_uncertain_objects_are_dropped_before_merging():
    def with_junk(image):
        boxes, scores, labels, _ = find(image)
        return [*boxes, (0, 0, 100, 100)], [*scores, 0.1], [*labels, 1], None

    result = predict_sliced(
        predictor(with_junk), draw(BOXES[:1], [1]), SliceOptions(slice_size=100)
    )
    assert result.boxes.tolist() == [list(BOXES[0])]
    everything = SliceOptions(slice_size=100, score_threshold=0)
    assert len(predict_sliced(predictor(with_junk), draw(BOXES[:1], [1]), everything)) > 1


def test_an_image_without_objects_and_one_smaller_than_a_slice():
    model = predictor()
    result = predict_sliced(model, draw([]), SliceOptions(slice_size=300))
    assert model.batches == [1]
    assert result.boxes.shape == (0, 4)
    assert result.labels.shape == (0,)


def test_files_and_channel_order(tmp_path):
    image = draw(BOXES, CLASSES)
    path = tmp_path / 'image.png'
    cv2.imwrite(str(path), image)
    options = {'slice_size': 100}
    of_file = predict_sliced(predictor(), path, SliceOptions(**options))
    rgb = np.ascontiguousarray(image[..., ::-1])
    of_array = predict_sliced(predictor(), rgb, SliceOptions(**options, channel_order='rgb'))
    np.testing.assert_array_equal(of_file.boxes, of_array.boxes)
    np.testing.assert_array_equal(of_file.draw(), of_array.draw())


def test_masks_that_need_too_much_memory_are_refused(monkeypatch):
    monkeypatch.setattr(slices, '_MASK_BYTES', 3 * 200 * 260)
    with pytest.raises(ValueError, match=r'masks of 4 objects .*260x200.*score_threshold'):
        predict_sliced(predictor(), draw(BOXES, CLASSES), SliceOptions(slice_size=100))


def test_segmentors_and_impossible_slices_are_refused():
    with pytest.raises(ValueError, match='--tile'):
        predict_sliced(FunctionPredictor(find), draw([]), SliceOptions(slice_size=100))
    for wrong in ({'slice_size': 0}, {'slice_size': 9, 'overlap': 1}):
        with pytest.raises(ValueError, match='slice_size='):
            SliceOptions(**wrong)


def test_without_sahi_the_extra_is_named(monkeypatch):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.startswith('sahi'):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, '__import__', refuse)
    with pytest.raises(ValueError, match=r'vit_dense\[slice\]'):
        predict_sliced(predictor(), draw([]), SliceOptions(slice_size=100))


def test_items_are_sliced_in_their_own_channel_order():
    """As of PIL images, whose order is known."""
    image = draw(BOXES, CLASSES)
    rgb = np.ascontiguousarray(image[..., ::-1])
    items = [Item('0', array=image, channel_order='bgr'), Item('1', array=rgb, channel_order='rgb')]
    found = [result for _, result in iter_sliced(predictor(), items, SliceOptions(slice_size=100))]
    assert len(found[0]) == len(BOXES)
    np.testing.assert_array_equal(found[0].boxes, found[1].boxes)
