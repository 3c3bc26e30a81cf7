"""Train a model from a config: `python tools/train.py CONFIG`, the same as `vit-dense train`."""

import sys

VIT_DENSE_COMMAND = True  # the types are registered after the options are parsed

from vit_dense.cli.train import main  # noqa: E402

if __name__ == '__main__':
    sys.exit(main())
