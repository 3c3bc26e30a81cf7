"""Draw features, attention and relevance of a model for one image."""

from argparse import ArgumentParser, ArgumentTypeError, Namespace

from .models import add_model_options, run_command, split_model
from .options import command_parser


def build_parser() -> ArgumentParser:
    """Return the options."""
    parser = command_parser(
        __doc__,
        usage='%(prog)s CONFIG_OR_CHECKPOINT [CHECKPOINT] IMAGE --out DIR [options]',
    )
    parser.add_argument(
        'names',
        nargs='+',
        metavar='MODEL IMAGE',
        help='a checkpoint, or a config and a checkpoint (without: weights as before training); '
        'then the image',
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
    add_model_options(parser)
    return parser


def inspect(args: Namespace) -> None:
    """Write the pictures, and print where they are and what is missing."""
    from ..apis import inspect_model

    model, images = split_model(args.names)
    if len(images) != 1:
        raise ValueError(
            f'Got {" ".join(args.names)}: name the model and one image, CONFIG [CHECKPOINT] IMAGE.'
        )
    sheet, notes = inspect_model(
        model[0],
        model[1] if len(model) > 1 else None,
        images[0],
        args.out,
        point=args.point,
        class_name=args.class_name,
        method=args.method,
        device=args.device,
    )
    for note in notes:
        print(f'Not shown: {note}')
    print(f'{sheet}, and single pictures beside it')


def main() -> int:
    """Run the command with the options in `sys.argv`, and return its exit code."""
    return run_command(inspect, build_parser().parse_args())


def _point(text: str) -> tuple[int, int]:
    x, _, y = text.partition(',')
    if not (x.strip().isdecimal() and y.strip().isdecimal()):
        raise ArgumentTypeError(f'{text!r}: give column and row of a pixel, such as 320,240')
    return int(x), int(y)
