"""Lets the tests import mmdet first, in alphabetical order, on wheels without compiled ops."""

import vit_dense  # noqa: F401
