"""Files beside the code that state what the code states as well."""

import re
from pathlib import Path

import pytest
import yaml

from vit_dense.cli import COMMANDS
from vit_dense.version import __version__

ROOT = Path(__file__).parents[2]


def test_citation_and_changelog_name_this_version() -> None:
    citation = yaml.safe_load((ROOT / 'CITATION.cff').read_text())
    assert citation['cff-version'] == '1.2.0'
    assert citation['version'] == __version__
    headings = [x for x in (ROOT / 'CHANGELOG.md').read_text().splitlines() if x.startswith('## ')]
    assert __version__ in headings[0]


def test_changelog_names_every_command() -> None:
    text = (ROOT / 'CHANGELOG.md').read_text()
    named = set(re.findall(r'`(?:vit-dense )?([a-z-]+)', text))
    assert set(COMMANDS) <= named


def test_makefile_names_tests_that_exist() -> None:
    named = re.findall(r'tests/[\w/]+\.py', (ROOT / 'Makefile').read_text())
    assert len(named) > 3
    assert [path for path in named if not (ROOT / path).is_file()] == []


def test_pre_commit_runs_the_checks_of_ci() -> None:
    ci = (ROOT / '.ci' / 'run').read_text()
    hooks = yaml.safe_load((ROOT / '.pre-commit-config.yaml').read_text())['repos'][0]['hooks']
    assert [hook['entry'].split(' --')[0] for hook in hooks] == [
        'ruff check',
        'ruff format',
        'mypy',
    ]
    for hook in hooks:
        assert hook['language'] == 'system'
        assert f' {hook["entry"].split(" --")[0]} ' in ci.replace('\n', ' ')
    assert '--check' in hooks[1]['entry'], 'format reports, as in CI, and rewrites nothing'


@pytest.mark.parametrize('name', ['bug_report', 'feature_request'])
def test_issue_templates_ask_for_the_doctor(name: str) -> None:
    form = yaml.safe_load((ROOT / '.github' / 'ISSUE_TEMPLATE' / f'{name}.yml').read_text())
    fields = {part['id']: part for part in form['body']}
    assert fields['doctor']['attributes']['label'] == 'Output of `vit-dense doctor`'
    required = fields['doctor'].get('validations', {}).get('required', False)
    assert required == (name == 'bug_report')
