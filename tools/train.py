"""Train a model from a config: `python tools/train.py configs/vit_upernet_demo.py`."""

import argparse
import os
import sys

from mmengine.config import DictAction

from vit_dense.apis import load_config, run_cleanly, train_model


def parse_args() -> argparse.Namespace:
    """Reads the options; they are those of OpenMMLab's own tools."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='folder for logs, checkpoints and pictures')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='go on from this checkpoint; without a value, from the latest in the work directory',
    )
    parser.add_argument('--amp', action='store_true', help='automatic mixed precision (bfloat16)')
    parser.add_argument(
        '--amp-dtype',
        choices=['bfloat16', 'float16'],
        help='number format of --amp; float16 for GPUs without bfloat16',
    )
    parser.add_argument(
        '--auto-scale-lr', action='store_true', help='scale the learning rate to the real batch'
    )
    parser.add_argument('--seed', type=int, help='seed of all random numbers')
    parser.add_argument('--deterministic', action='store_true', help='deterministic algorithms')
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
    """Trains."""
    args = parse_args()

    def work() -> None:
        config = load_config(
            args.config,
            work_dir=args.work_dir,
            cfg_options=args.cfg_options,
            launcher=args.launcher,
        )
        train_model(
            config,
            resume=args.resume,
            amp_dtype=args.amp_dtype or ('bfloat16' if args.amp else None),
            auto_scale_lr=args.auto_scale_lr,
            seed=args.seed,
            deterministic=args.deterministic,
        )

    return run_cleanly(work, debug=args.debug)


if __name__ == '__main__':
    sys.exit(main())
