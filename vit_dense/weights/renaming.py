"""Renaming tensors by a table of regular expressions."""

import re
from collections.abc import Iterable

__all__ = ['rename']


def rename(name: str, rules: Iterable[tuple[str, str]]) -> str:
    """Apply the first (pattern, replacement) rule that matches; keep `name` if none does."""
    for pattern, replacement in rules:
        new_name, hits = re.subn(pattern, replacement, name)
        if hits:
            return new_name
    return name
