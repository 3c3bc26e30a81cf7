"""Convert a weight file: `convert_checkpoint.py SRC DST`, the same as `vit-dense convert`."""

import sys

from vit_dense.cli.convert import main

if __name__ == '__main__':
    sys.exit(main())
