"""Peak memory of tiled segmentation: 150 classes, images of growing size, a tiny random ViT.

    python -m benchmarks.large_images 4000 8000
    python -m benchmarks.large_images 2000x20000  # height x width

Every image is predicted in a process of its own. Memory is the largest resident set while it is
predicted, less the resident set once the model is loaded.
"""

import argparse
import sys
import time
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from .tables import print_header, print_row

CLASSES = 150
_MEGA = 2**20


def large_model_config() -> Any:
    """Return a config of the tiny ViT of timm's tests with UPerNet, 150 classes, crops of 512."""
    from vit_dense.apis import load_config

    config = load_config('configs/vit_upernet_demo.py')
    config.crop_size = (512, 512)
    config.model.decode_head.update(num_classes=CLASSES)
    config.model.auxiliary_head = None
    names = [f'class {i}' for i in range(CLASSES)]
    config.test_dataloader.dataset.metainfo = {'classes': names, 'palette': None}
    return config


def write_image(path: Path, height: int, width: int) -> None:
    """Write random 8-bit colours of 32 pixels each, in strips, with a georeference."""
    import rasterio
    from rasterio.transform import from_origin

    random = np.random.default_rng(0)
    options = {'driver': 'GTiff', 'count': 3, 'dtype': 'uint8', 'photometric': 'rgb', 'tiled': True}
    place = {'crs': 'EPSG:32633', 'transform': from_origin(500000, 5400000, 0.2, 0.2)}
    with rasterio.open(path, 'w', height=height, width=width, **options, **place) as out:
        for top in range(0, height, 512):
            rows = min(512, height - top)
            cells = random.integers(0, 256, (3, -(-rows // 32), -(-width // 32)), np.uint8)
            pixels = cells.repeat(32, 1).repeat(32, 2)[:, :rows, :width]
            out.write(pixels, window=((top, top + rows), (0, width)))


def measure(source: str, out: str) -> dict[str, float]:
    """Predict one image and return seconds, MiB beyond the model, and what the summary says."""
    from mmengine.logging import MMLogger

    from vit_dense.apis import load_model
    from vit_dense.runtime.tiles import predict_tiled

    MMLogger.get_instance('mmengine').setLevel('ERROR')
    predictor = load_model(large_model_config(), device='cpu', require_checkpoint=False)
    loaded = _status('VmRSS')
    _forget_peak()
    start = time.perf_counter()
    summary = predict_tiled(predictor, source, out, progress=_progress)
    return {
        'tiles': summary.tiles,
        'seconds': time.perf_counter() - start,
        'disagreement': summary.disagreement or 0.0,
        'peak': (_status('VmHWM') - loaded) / _MEGA,
    }


def measure_apart(source: Path, out: Path) -> dict[str, float]:
    """Return `measure` of a fresh process, which has no memory of earlier images."""
    with get_context('spawn').Pool(1) as pool:
        return pool.apply(measure, (str(source), str(out)))


def _status(name: str) -> int:
    """Return a figure of this process in bytes (Linux)."""
    lines = Path('/proc/self/status').read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f'{name}:')) * 1024


def _forget_peak() -> None:
    """Let `VmHWM` count from now on (Linux, proc(5)); where that is forbidden, it is larger."""
    try:
        Path('/proc/self/clear_refs').write_text('5')
    except OSError:
        print('the peak includes loading the model', file=sys.stderr)


def _progress(done: int, total: int) -> None:
    if done % 50 == 0 or done == total:
        print(f'{done}/{total} tiles', file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('sizes', nargs='+', help='edge, or HEIGHTxWIDTH, in pixels')
    parser.add_argument('--format', choices=('tif', 'png'), default='tif', help='of the image')
    args = parser.parse_args()
    print_header('image', 'tiles', 'seconds', 'disagreement', 'MiB beyond the model')
    for size in args.sizes:
        height, _, width = size.partition('x')
        with TemporaryDirectory() as folder:
            source, out = Path(folder) / 'image.tif', Path(folder) / f'labels.{args.format}'
            write_image(source, int(height), int(width or height))
            if args.format == 'png':
                source = _as_png(source)
            found = measure_apart(source, out)
        print_row(
            f'{height} x {width or height}',
            f'{found["tiles"]:.0f}',
            f'{found["seconds"]:.0f}',
            f'{found["disagreement"]:.1%}',
            f'{found["peak"]:.0f}',
        )


def _as_png(path: Path) -> Path:
    import cv2

    target = path.with_suffix('.png')
    cv2.imwrite(str(target), cv2.imread(str(path)))
    return target


if __name__ == '__main__':
    main()
