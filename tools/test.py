"""Evaluate a checkpoint: `python tools/test.py CONFIG CHECKPOINT`, the same as `vit-dense test`."""

import sys

VIT_DENSE_COMMAND = True  # the types are registered after the options are parsed

from vit_dense.cli.test import main  # noqa: E402

if __name__ == '__main__':
    sys.exit(main())
