"""Evaluate a checkpoint: `python tools/test.py CONFIG CHECKPOINT`."""

import argparse
import os
import sys

from mmengine.config import DictAction

from vit_dense.apis import evaluate_model, load_config, run_cleanly


def parse_args() -> argparse.Namespace:
    """Reads the options; they are those of OpenMMLab's own tools."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='weights')
    parser.add_argument('--work-dir', help='folder for logs, metrics and pictures')
    parser.add_argument(
        '--out', help='folder for predicted label maps, or a .pkl file for all raw results'
    )
    parser.add_argument('--show', action='store_true', help='show results in a window')
    parser.add_argument('--show-dir', help='folder for pictures of all results')
    parser.add_argument('--wait-time', type=float, default=2.0, help='seconds a window stays')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, help='settings to override: key=value ...'
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    parser.add_argument('--debug', action='store_true', help='full stack for every error')
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def main() -> int:
    """Evaluates and prints the metrics."""
    args = parse_args()

    def work() -> None:
        config = load_config(
            args.config,
            work_dir=args.work_dir,
            cfg_options=args.cfg_options,
            launcher=args.launcher,
        )
        metrics = evaluate_model(
            config,
            args.checkpoint,
            out=args.out,
            show=args.show,
            show_dir=args.show_dir,
            wait_time=args.wait_time,
            tta=args.tta,
        )
        print('  '.join(f'{name} {value:.5g}' for name, value in metrics.items()))

    return run_cleanly(work, debug=args.debug)


if __name__ == '__main__':
    sys.exit(main())
