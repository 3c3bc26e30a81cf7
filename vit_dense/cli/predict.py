"""Predict images, folders, patterns and videos, and write masks, pictures and JSON.

MODEL is a checkpoint, a config and a checkpoint, or a file that `vit-dense export` wrote.
"""

import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from .models import add_model_options, open_model, run_command, split_model
from .options import command_parser

if TYPE_CHECKING:
    from ..runtime.job import Summary
    from ..runtime.output import Output
    from ..runtime.slices import SliceOptions
    from ..runtime.tiles import TileOptions

_SOME_FAILED = 1
_INTERRUPTED = 130
# What is written if --save does not say.
_DEFAULT = {'segmentation': ('masks', 'overlays'), 'detection': ('overlays', 'json')}


def build_parser() -> ArgumentParser:
    """Return the options."""
    parser = command_parser(
        __doc__,
        formatter_class=RawDescriptionHelpFormatter,
        usage='%(prog)s CONFIG_OR_CHECKPOINT [CHECKPOINT] INPUT... --out DIR [options]',
    )
    parser.add_argument('names', nargs='+', metavar='MODEL INPUT', help='model, then inputs')
    parser.add_argument('--out', required=True, metavar='DIR', help='folder of the results')
    parser.add_argument(
        '--save',
        help='any of masks,overlays,json (default: masks,overlays; of a detector overlays,json)',
    )
    parser.add_argument('--batch-size', type=int, default=8, help='images that run together')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation of the config')
    parser.add_argument('--dtype', help='bfloat16 or float16 for mixed precision')
    parser.add_argument(
        '--score-threshold',
        type=float,
        help='minimum score of objects (default: 0.3 in pictures, masks and slices, none in JSON)',
    )
    parser.add_argument(
        '--classes', nargs='+', metavar='NAME', help='only these objects, or colours of overlays'
    )
    parser.add_argument(
        '--skip-existing', action='store_true', help='go on with a run that was stopped'
    )
    parser.add_argument(
        '--annotations',
        metavar='FILE',
        help='annotation file of COCO whose image and category ids predictions.json has',
    )
    parts = parser.add_argument_group('large images')
    parts.add_argument(
        '--tile',
        type=int,
        nargs='?',
        const=0,
        metavar='SIZE',
        help='segment in tiles of this edge in pixels (default: the training crop)',
    )
    parts.add_argument(
        '--slice', type=int, metavar='SIZE', help='detect in slices of this edge in pixels'
    )
    parts.add_argument(
        '--overlap', type=int, metavar='PX', help='pixels that tiles or slices share'
    )
    parts.add_argument('--bands', type=_bands, help='bands of a TIFF to use, such as 3,2,1')
    parts.add_argument(
        '--scale-from', type=_range, metavar='MIN,MAX', help='values that become 0 and 255'
    )
    add_model_options(parser)
    return parser


def _bands(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(','))
    except ValueError as error:
        raise ArgumentTypeError(f'{text!r}: give numbers of bands, such as 3,2,1') from error


def _range(text: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in text.split(','))
    except ValueError as error:
        raise ArgumentTypeError(f'{text!r}: give two numbers, such as 0,10000') from error
    return low, high


def tile_options(args: Namespace) -> 'TileOptions | None':
    """Return how to cut into tiles, or None without --tile.

    Raises:
        ValueError: An option of tiles is given without --tile, or one that tiles do not have.
    """
    if args.tile is None:
        if args.bands is not None or args.scale_from is not None:
            raise ValueError('--bands and --scale-from are for rasters in tiles: add --tile.')
        return None
    if args.tta or args.slice is not None:
        raise ValueError('--tile cannot be combined with --tta or --slice.')
    from ..runtime.tiles import TileOptions

    return TileOptions(
        tile=args.tile or None,
        overlap=args.overlap,
        batch_size=args.batch_size,
        dtype=args.dtype,
        bands=args.bands,
        scale_from=args.scale_from,
    )


def slice_options(args: Namespace) -> 'SliceOptions | None':
    """Return how to cut into slices, or None without --slice."""
    if args.slice is None:
        if args.overlap is not None and args.tile is None:
            raise ValueError('--overlap is for --tile or --slice.')
        return None
    if args.tta:
        raise ValueError('--slice cannot be combined with --tta.')
    from ..runtime.slices import SliceOptions

    options = SliceOptions(slice_size=args.slice, batch_size=args.batch_size, dtype=args.dtype)
    if args.overlap is not None:
        options = replace(options, overlap=args.overlap / args.slice)
    if args.score_threshold is not None:
        options = replace(options, score_threshold=args.score_threshold)
    return options


def predict(args: Namespace) -> int:
    """Predict, print the summary, and return the exit code: 1 if an input has no result."""
    from ..runtime.job import predict_files
    from ..runtime.output import Output
    from ..runtime.predictor import PredictOptions

    model, inputs = split_model(args.names)
    if not inputs:
        raise ValueError('INPUT is missing: name images, folders, patterns or videos.')
    tiles, slices = tile_options(args), slice_options(args)
    predictor = open_model(model, args.device)
    default = ('masks', 'json') if tiles is not None else _DEFAULT[predictor.task]
    kinds = tuple(args.save.split(',')) if args.save else default
    classes = tuple(args.classes) if args.classes else None
    output = Output(Path(args.out), kinds, args.score_threshold, classes)
    options = PredictOptions(args.batch_size, args.tta, args.dtype)
    summary = predict_files(
        predictor,
        inputs,
        output,
        options,
        skip_existing=args.skip_existing,
        tiles=tiles,
        slices=slices,
        annotations=args.annotations,
    )
    _print_summary(summary, output)
    return _SOME_FAILED if summary.errors else 0


def main() -> int:
    """Run the command with the options in `sys.argv`, and return its exit code."""
    args = build_parser().parse_intermixed_args()
    import cv2

    cv2.utils.logging.setLogLevel(
        cv2.utils.logging.LOG_LEVEL_SILENT
    )  # what cannot be read is listed at the end
    try:
        return run_command(predict, args)
    except KeyboardInterrupt:
        print(
            'Stopped. What is written so far is complete; --skip-existing goes on.', file=sys.stderr
        )
        return _INTERRUPTED


def _print_summary(summary: 'Summary', output: 'Output') -> None:
    rate = summary.predicted / summary.seconds if summary.seconds else 0.0
    places = ', '.join(str(output.folder / kind) for kind in output.kinds)
    skipped = f', {summary.skipped} skipped' if summary.skipped else ''
    print(
        f'{summary.predicted} predicted in {summary.seconds:.1f} s ({rate:.1f} per second)'
        f'{skipped}: {places}'
    )
    for note in summary.notes:
        print(f'  {note}')
    if summary.errors:
        print(f'{len(summary.errors)} without a result:', file=sys.stderr)
        for error in summary.errors:
            print(f'  {error.message}', file=sys.stderr)
