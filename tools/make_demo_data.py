"""Writes the embedded demo data set (drawn streets, ADE20K layout)."""

from vit_dense.datasets.synthetic import main

if __name__ == '__main__':
    print(f'The demo data set is in {main()}')
