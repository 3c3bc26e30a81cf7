"""Serve a page in the browser to try a model on images."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from .models import add_model_options, open_model, run_command
from .options import command_parser

DEFAULT_PORT = 7860


def build_parser() -> ArgumentParser:
    """Return the options."""
    parser = command_parser(__doc__)
    parser.add_argument(
        'model',
        metavar='CONFIG_OR_CHECKPOINT',
        help='config, checkpoint that carries its config, or exported file (.onnx, .xml)',
    )
    parser.add_argument('checkpoint', nargs='?', metavar='CHECKPOINT', help='weights')
    parser.add_argument('--host', default='127.0.0.1', help='address to bind to (this machine)')
    parser.add_argument('--port', type=int, default=DEFAULT_PORT, help='default: %(default)s')
    parser.add_argument(
        '--examples', metavar='FOLDER', help='images to offer (default: of the test data)'
    )
    parser.add_argument(
        '--max-upload', type=float, default=32, metavar='MB', help='default: %(default)s'
    )
    parser.add_argument(
        '--max-megapixels',
        type=float,
        metavar='N',
        help='default: 25, less for segmentation with over 26 classes',
    )
    add_model_options(parser)
    return parser


def main() -> int:
    """Run the command with the options in `sys.argv`, and return its exit code."""
    return run_command(_serve, build_parser().parse_args())


def _serve(args: Namespace) -> None:
    from ..web.examples import example_images
    from ..web.server import check_gradio, open_socket, serve
    from ..web.session import Limits, default_megapixels

    check_gradio()
    for option, value in (('upload', args.max_upload), ('megapixels', args.max_megapixels)):
        if value is not None and not value > 0:
            raise ValueError(f'--max-{option} {value:g}: give a number above 0.')
    names = [args.model, *([args.checkpoint] if args.checkpoint else [])]
    with open_socket(args.host, args.port) as opened:
        predictor = open_model(names, args.device)
        host, port = opened.getsockname()[:2]
        shown = f'[{host}]' if ':' in host else host
        print(f'http://{shown}:{port}  (Ctrl+C ends it)', flush=True)
        serve(
            predictor,
            opened,
            title=_title(args.model),
            limits=Limits(args.max_upload, args.max_megapixels or default_megapixels(predictor)),
            examples=example_images(args.examples, getattr(predictor, 'config', None)),
        )


def _title(model: str) -> str:
    """Return the name of a config or exported file; of a checkpoint with its folder's."""
    path = Path(model)
    is_checkpoint = path.suffix in ('.pth', '.pt') and path.parent.name
    return f'{path.parent.name}/{path.stem}' if is_checkpoint else path.stem
