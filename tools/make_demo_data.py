"""Write the embedded demo data set (drawn streets, ADE20K and COCO layouts)."""

import sys

from vit_dense.data.synthetic import main

if __name__ == '__main__':
    try:
        print(f'The demo data set is in {main()}')
    except ValueError as error:
        sys.exit(f'Error: {error}')
