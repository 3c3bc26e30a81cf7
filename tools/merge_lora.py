"""Merge LoRA: `merge_lora.py CONFIG CHECKPOINT OUT`, the same as `vit-dense merge-lora`."""

import sys

from vit_dense.cli.merge_lora import main

if __name__ == '__main__':
    sys.exit(main())
