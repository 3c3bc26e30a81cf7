"""The table of licences in docs/weights.md says what timm records."""

import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
import timm

PAGE = Path(__file__).parents[2] / 'docs' / 'weights.md'
ROW = re.compile(r'^' + r'\|([^|\n]*)' * 5, re.M)
ROWS = [
    (re.findall(r'`([^`]+)`', names), licence.strip(' `'), usable.strip())
    for _, names, licence, usable, _ in ROW.findall(PAGE.read_text())
    if '`' in licence
]
NON_COMMERCIAL = {'cc-by-nc-4.0', 'fair-noncommercial-research-license'}


def test_table_is_found() -> None:
    assert len(ROWS) >= 17


@pytest.mark.parametrize(('names', 'licence', 'usable'), ROWS, ids=lambda value: str(value)[:30])
def test_row(names: list[str], licence: str, usable: str) -> None:
    weights = timm.list_models(pretrained=True)
    for pattern in names:
        found = [name for name in weights if fnmatchcase(name, pattern)]
        assert {timm.get_pretrained_cfg(name).license for name in found} == {licence}, pattern
    assert (usable == 'no') == (licence in NON_COMMERCIAL)
    assert licence not in ('apache-2.0', 'mit') or usable == 'yes'
