"""Merge LoRA: `merge_lora.py CONFIG CHECKPOINT OUT`, the same as `vit-dense merge-lora`."""

import sys

VIT_DENSE_COMMAND = True  # the types are registered after the options are parsed

from vit_dense.cli.merge_lora import main  # noqa: E402

if __name__ == '__main__':
    sys.exit(main())
