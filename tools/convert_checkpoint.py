"""Convert a weight file: `convert_checkpoint.py SRC DST`, the same as `vit-dense convert`."""

import sys

VIT_DENSE_COMMAND = True  # the types are registered after the options are parsed

from vit_dense.cli.convert import main  # noqa: E402

if __name__ == '__main__':
    sys.exit(main())
