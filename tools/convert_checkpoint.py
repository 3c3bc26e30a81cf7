"""Convert a weight file to this package's names: `convert_checkpoint.py SRC DST`."""

import sys
from argparse import ArgumentParser

from vit_dense.apis import convert_checkpoint, report_user_errors


def main() -> int:
    """Converts, and prints what was recognised and what became of the tensors."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument('source', help='released checkpoint, or ViT weights of any layout')
    parser.add_argument('destination', help='.pth, .pt or .safetensors file to write')
    parser.add_argument('--config', help='config of the model; default: told by the shapes')
    parser.add_argument('--model-name', help='timm architecture of ViT weights; default: likewise')
    parser.add_argument('--debug', action='store_true', help='full stack for every error')
    args = parser.parse_args()

    def job() -> None:
        report = convert_checkpoint(
            args.source, args.destination, config=args.config, model_name=args.model_name
        )
        use = 'load_from and tools/test.py' if report.is_released else 'vit.checkpoint'
        print(f'{report}\nWritten to {args.destination}, for {use}')

    return report_user_errors(job, debug=args.debug)


if __name__ == '__main__':
    sys.exit(main())
