"""Draw features, attention and relevance of a model for one image."""

from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path


def main() -> int:
    """Run the command with the options in `sys.argv`, and return its exit code."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file, or a checkpoint alone')
    parser.add_argument(
        'files',
        nargs='+',
        metavar='[CHECKPOINT] IMAGE',
        help='the weights (default: those that the config initialises), and the image',
    )
    parser.add_argument('--out', required=True, help='folder for sheet.png and single pictures')
    parser.add_argument(
        '--point',
        type=_point,
        metavar='X,Y',
        help='pixel of the image whose attention and prediction to show (default: attention of '
        'the centre, and the prediction of the whole image)',
    )
    parser.add_argument(
        '--class',
        dest='class_name',
        help='name or index of the class to explain (default: the most frequent prediction)',
    )
    parser.add_argument(
        '--method',
        choices=['hirescam', 'gradcam'],
        default='hirescam',
        help='how relevance is computed (default: %(default)s)',
    )
    parser.add_argument('--device', default='auto', help="'auto', 'cpu', 'cuda' or 'cuda:N'")
    parser.add_argument('--debug', action='store_true', help='print the stack trace of every error')
    args = parser.parse_args()
    if len(args.files) > 2:
        parser.error(f'give [CHECKPOINT] IMAGE after the config, got {len(args.files)} files')
    checkpoint = args.files[0] if len(args.files) == 2 else None

    # Imported here, so that --help answers without torch.
    from ..apis import inspect_model, report_user_errors

    def job() -> None:
        sheet, notes = inspect_model(
            args.config,
            checkpoint,
            args.files[-1],
            args.out,
            point=args.point,
            class_name=args.class_name,
            method=args.method,
            device=args.device,
        )
        count = len(list(Path(args.out).glob('*.png'))) - 1
        print('\n'.join([*(f'Not shown: {note}' for note in notes), '']).lstrip(), end='')
        print(f'{sheet}, and {count} single pictures beside it')

    return report_user_errors(job, debug=args.debug)


def _point(text: str) -> tuple[int, int]:
    x, _, y = text.partition(',')
    if not (x.strip().isdecimal() and y.strip().isdecimal()):
        raise ArgumentTypeError(f'{text!r}: give column and row of a pixel, such as 320,240')
    return int(x), int(y)
