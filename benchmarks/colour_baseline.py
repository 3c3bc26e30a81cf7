"""Score a classifier of single pixels by their colour on the demo data set.

Logistic regression on a pixel's RGB values, their squares and products, fitted on training pixels,
scored by mIoU over all validation pixels, like the models. With `--position` the pixel's row and
column are inputs too:

    python -m benchmarks.colour_baseline --data data/demo
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from examples.streets import CLASSES, write_demo_dataset


def load_pixels(
    root: Path, split: str, *, position: bool
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return `(N, 3)` RGB values in 0..1 and `(N,)` class indices of all pixels of a split.

    With `position`, row and column in 0..1 are appended: `(N, 5)`.
    """
    colours, labels = [], []
    for path in sorted((root / 'images' / split).glob('*.png')):
        image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        mask = cv2.imread(str(root / 'annotations' / split / path.name), cv2.IMREAD_UNCHANGED)
        pixels = image.reshape(-1, 3).astype(np.float32) / 255
        if position:
            grid = np.mgrid[: mask.shape[0], : mask.shape[1]].reshape(2, -1).T
            pixels = np.hstack([pixels, (grid / mask.shape).astype(np.float32)])
        colours.append(pixels)
        labels.append(mask.reshape(-1))
    return np.concatenate(colours), np.concatenate(labels)


def mean_iou(
    predicted: NDArray[np.uint8], truth: NDArray[np.uint8], classes: int
) -> NDArray[np.float64]:
    """Return the intersection over union of each class, in percent."""
    pairs = truth.astype(np.int64) * classes + predicted
    table = np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)
    union = table.sum(0) + table.sum(1) - table.diagonal()
    return 100 * table.diagonal() / union


def main() -> None:
    """Fit, score and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--data', default='data/demo', help='created if missing')
    parser.add_argument('--pixels', type=int, default=200_000, help='training pixels to fit on')
    parser.add_argument(
        '--balanced', action='store_true', help='weight classes by their inverse frequency'
    )
    parser.add_argument('--position', action='store_true', help='add row and column')
    args = parser.parse_args()
    root = write_demo_dataset(args.data)
    colours, labels = load_pixels(root, 'training', position=args.position)
    chosen = np.random.default_rng(0).choice(len(labels), args.pixels, replace=False)
    model = make_pipeline(
        PolynomialFeatures(2, include_bias=False),
        StandardScaler(),
        LogisticRegression(max_iter=500, class_weight='balanced' if args.balanced else None),
    )
    model.fit(colours[chosen], labels[chosen])
    colours, labels = load_pixels(root, 'validation', position=args.position)
    scores = mean_iou(model.predict(colours), labels, len(CLASSES))
    for name, score in zip(CLASSES, scores, strict=True):
        print(f'{name:12s} IoU {score:5.1f}')
    inputs = 'colour and position' if args.position else 'colour only'
    print(f'{inputs}: mIoU {scores.mean():.2f}')


if __name__ == '__main__':
    main()
