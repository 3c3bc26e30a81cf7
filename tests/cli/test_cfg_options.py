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
        ('runs (copy)/a.pth', 'runs (copy)/a.pth'),
        ('x [1] {a}', 'x [1] {a}'),
        ("'a','b'", ['a', 'b']),
        ("'a b', 'c'", ['a b', 'c']),
        ('"a, b :("', 'a, b :('),
        ("{'a': 1}", {'a': 1}),
        ('[1, true]', [1, True]),
        ('1, 2', [1, 2]),
        ('[ a, (1, b) ]', ['a', (1, 'b')]),
        (' 0.5 ', 0.5),
        ('None', None),
    ],
)
def test_spaces_in_values_are_kept(text: str, value: Any) -> None:
    assert parse(f'a.b={text}') == {'a.b': value}


@pytest.mark.parametrize(
    'text',
    ['[traffic light, car]', 'a light,car', 'a (1), b', '(a b)', "{'a': b c}", "[true, 'a b']"],
)
def test_spaces_in_texts_without_quotes_are_refused(text: str) -> None:
    """mmengine would remove them."""
    with pytest.raises(ValueError, match=r'a\.b=.* every text in quotes, .*\'a\.b=\["a b", "c"\]'):
        parse(f'a.b={text}')


@pytest.mark.parametrize('text', ['[1, 2', '(1,2', 'dict(n=1, m=2)'])
def test_brackets_that_cannot_be_read(text: str) -> None:
    with pytest.raises(ValueError, match=r'--cfg-options a\.b=.* brackets cannot be read'):
        parse(f'a.b={text}')


def parse(text: str) -> dict[str, Any]:
    parser = ArgumentParser()
    add_cfg_options(parser)
    return parsed_settings(parser.parse_args(['--cfg-options', text]))
