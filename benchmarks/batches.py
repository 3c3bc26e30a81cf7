"""Measure images per second of `predict` one by one and in batches of equal size.

    python benchmarks/batches.py

ViT-Adapter and UPerNet of the demo, random weights, drawn images of 128 x 160 px. The two run in
turn; the ratio is the median of the ratios within a turn.
"""

import argparse
import statistics
import time

import numpy as np
import torch
from tables import print_header, print_row

from vit_dense.apis import load_model
from vit_dense.export.pictures import drawn_pictures

CONFIG = 'vit_dense::vit_upernet_demo.py'


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--images', type=int, default=64)
    parser.add_argument('--batch-size', type=int, default=8)
    parser.add_argument('--turns', type=int, default=5)
    args = parser.parse_args()
    model = load_model(CONFIG, device='cpu', require_checkpoint=False)
    images = drawn_pictures((128, 160), count=args.images)
    rates: dict[int, list[float]] = {1: [], args.batch_size: []}
    for turn in range(args.turns + 1):  # the first is not counted
        for batch_size, found in rates.items():
            start = time.perf_counter()
            results = model.predict(images, batch_size=batch_size)
            if turn:
                found.append(len(results) / (time.perf_counter() - start))
    print(f'{torch.get_num_threads()} threads, PyTorch {torch.__version__}\n')
    print_header('batch size', 'images/s', 'times as fast as one by one')
    for batch_size, found in rates.items():
        ratio = np.array(found) / np.array(rates[1])
        print_row(batch_size, f'{statistics.median(found):.1f}', f'{np.median(ratio):.2f}')


if __name__ == '__main__':
    main()
