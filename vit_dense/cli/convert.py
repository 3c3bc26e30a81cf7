"""Convert a weight file to the names of this package."""

from .options import command_parser


def main() -> int:
    """Convert, and print what the file is and what became of its tensors."""
    parser = command_parser(__doc__)
    parser.add_argument('source', help='released checkpoint, or ViT weights of any layout')
    parser.add_argument('destination', help='.pth, .pt or .safetensors file to write')
    parser.add_argument('--config', help='config of the model (default: inferred from the shapes)')
    parser.add_argument(
        '--model-name', help='timm model of ViT weights (default: inferred from the shapes)'
    )
    args = parser.parse_args()
    from ..apis import convert_checkpoint, report_user_errors

    def job() -> None:
        report = convert_checkpoint(
            args.source, args.destination, config=args.config, model_name=args.model_name
        )
        use = 'load_from and tools/test.py' if report.is_whole_model else 'vit.checkpoint'
        print(f'{report}\nWritten to {args.destination}, for {use}')

    return report_user_errors(job, debug=args.debug)
