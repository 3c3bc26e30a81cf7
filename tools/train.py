"""Train a model from a config: `python tools/train.py CONFIG`, the same as `vit-dense train`."""

import sys

from vit_dense.cli.train import main

if __name__ == '__main__':
    sys.exit(main())
