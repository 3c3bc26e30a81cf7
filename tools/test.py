"""Evaluate a checkpoint: `python tools/test.py CONFIG CHECKPOINT`, the same as `vit-dense test`."""

import sys

from vit_dense.cli.test import main

if __name__ == '__main__':
    sys.exit(main())
