"""`python -m vit_dense.data --out data/demo` writes the embedded demo data set."""

import sys

from .synthetic import main

if __name__ == '__main__':
    sys.stdout.write(f'The demo data set is in {main()}\n')
