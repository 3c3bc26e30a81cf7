"""Run the command `vit-dense` as `python -m vit_dense`."""

import sys

from .cli import main

if __name__ == '__main__':
    sys.exit(main())
