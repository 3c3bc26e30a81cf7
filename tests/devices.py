"""The devices that a test runs on: the CPU, and a GPU where there is one."""

import pytest

DEVICES = ['cpu', pytest.param('cuda', marks=pytest.mark.cuda)]
