"""The values of --cfg-options."""

from argparse import ArgumentParser
from typing import Any

import pytest

from vit_dense.cli.options import add_cfg_options, parsed_settings


@pytest.mark.parametrize(
    ('text', 'value'),
    [
        ('/my data (new)/x', '/my data (new)/x'),
        ("('traffic light', 'car')", ('traffic light', 'car')),
        ("['my data/a','b']", ['my data/a', 'b']),
        ('"my data"', 'my data'),
        ('[1, true]', [1, True]),
        ('1, 2', [1, 2]),
        (' 0.5 ', 0.5),
        ('None', None),
    ],
)
def test_spaces_in_values_are_kept(text: str, value: Any) -> None:
    parser = ArgumentParser()
    add_cfg_options(parser)
    args = parser.parse_args(['--cfg-options', f'a.b={text}'])
    assert parsed_settings(args) == {'a.b': value}
