"""Write the street scenes from a checkout: `python -m examples.streets --out data/demo`."""

import sys

from .dataset import main

if __name__ == '__main__':
    try:
        sys.stdout.write(f'The demo data set is in {main()}\n')
    except ValueError as error:
        sys.exit(f'Error: {error}')
