"""Look at a folder of labelled images, and write a config that trains on it."""

from argparse import ArgumentParser, Namespace

from .models import run_command
from .options import command_parser


def build_parser() -> ArgumentParser:
    """Return the options."""
    parser = command_parser(__doc__)
    parser.add_argument('data', help='folder of images and their masks or boxes')
    parser.add_argument('--out', default='my_config.py', help='config to write (%(default)s)')
    parser.add_argument('--force', action='store_true', help='overwrite an existing config')
    parser.add_argument(
        '--task', choices=['segmentation', 'detection'], help='if the folder has labels for both'
    )
    parser.add_argument('--images', default='', metavar='FOLDER', help='folder of images in DATA')
    labels = parser.add_mutually_exclusive_group()
    labels.add_argument(
        '--masks', default='', metavar='FOLDER', help="folder of masks in DATA, or 'FOLDER/*END'"
    )
    labels.add_argument(
        '--boxes', default='', metavar='PATH', help='COCO file, or folder of box files, in DATA'
    )
    parser.add_argument(
        '--classes',
        default='',
        metavar='NAMES',
        help='NAME,NAME,... in the order of values, or a file with lines of NAME, VALUE NAME, or '
        'NAME R G B',
    )
    return parser


def init(args: Namespace) -> None:
    """Write the config, and print what was understood and how to go on."""
    from ..apis.init_config import init_config

    rows = init_config(
        args.data,
        args.out,
        task='segmentation' if args.masks else 'detection' if args.boxes else args.task,
        images=args.images,
        labels=args.masks or args.boxes,
        classes=args.classes,
        force=args.force,
    )
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        print(f'{name.ljust(width)}  {text}')
    print(f'\nvit-dense check {args.out}\nvit-dense train {args.out}')


def main() -> int:
    """Run the command with the options in `sys.argv`, and return its exit code."""
    return run_command(init, build_parser().parse_args())
