"""Write a model as an ONNX or OpenVINO file, if the file predicts what the model predicts."""

from argparse import ArgumentParser, Namespace

from .models import run_command
from .options import command_parser


def build_parser() -> ArgumentParser:
    """Return the options."""
    parser = command_parser(__doc__)
    parser.add_argument('config', help='config file, or a checkpoint alone')
    parser.add_argument('checkpoint', nargs='?', help='weights')
    parser.add_argument('out', metavar='OUT', help='file to write: .onnx, or .xml for OpenVINO')
    parser.add_argument(
        '--format', choices=['onnx', 'openvino'], help='default: what the suffix of OUT says'
    )
    parser.add_argument(
        '--size',
        nargs=2,
        type=int,
        metavar=('HEIGHT', 'WIDTH'),
        help='pixels that the file takes (default: of the windows, the images or the config)',
    )
    parser.add_argument(
        '--dynamic-size', action='store_true', help='any size, for models that are exact then'
    )
    parser.add_argument(
        '--images',
        nargs='+',
        default=[],
        metavar='PATH',
        help='images, folders or patterns to compare with (default: drawn ones)',
    )
    parser.add_argument(
        '--gather-sampling',
        action='store_true',
        help='write deformable attention as gathers: exact where GridSample is not (TensorRT)',
    )
    return parser


def export(args: Namespace) -> None:
    """Export, and print how far the file is from the model."""
    from ..apis import load_model
    from ..apis.export import ExportOptions, export_model

    kind = args.format or ('openvino' if args.out.endswith('.xml') else 'onnx')
    size = (args.size[0], args.size[1]) if args.size else None
    options = ExportOptions(kind, size, args.dynamic_size, args.gather_sampling, args.images)
    print('Tracing, writing and comparing: a minute or more', flush=True)
    model = load_model(args.config, args.checkpoint, device='cpu')
    proof, description = export_model(model, args.out, options)
    height, width = description.size or ('any', 'any')
    print(
        f'{args.out}: {description.model}\n'
        f'  takes {description.batch or "any number of"} images of {height} x {width} pixels '
        '(height x width) at once\n'
        f'  compared with the model on {proof.images} images: probabilities differ by at most '
        f'{proof.score_error:.2g}, {proof.label_share:.3%} of the labels differ'
    )
    if description.task == 'detection':
        print(f'  boxes differ by at most {proof.box_error:.2g} pixels')


def main() -> int:
    """Run the command with the options in `sys.argv`, and return its exit code."""
    return run_command(export, build_parser().parse_args())
