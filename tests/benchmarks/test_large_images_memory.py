"""The benchmark's figures: memory of tiled segmentation in processes of their own."""

import pytest

from benchmarks.large_images import measure_apart, write_image


@pytest.mark.slow
def test_memory_is_bounded_and_does_not_grow_with_height(tmp_path):
    peaks = []
    for height in (900, 2400):
        source = tmp_path / f'{height}.tif'
        write_image(source, height, 900)
        found = measure_apart(source, tmp_path / 'labels.tif')
        assert found['disagreement'] > 0
        peaks.append(found['peak'])
    # The probabilities of one tile are 150 MiB; the model computes and returns a few copies.
    assert 150 < peaks[0] < 2048
    assert peaks[1] < peaks[0] + 60
