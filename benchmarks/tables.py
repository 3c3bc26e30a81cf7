"""Markdown tables as the benchmarks print them, row by row."""

from __future__ import annotations

from typing import Any


def row(*cells: Any) -> str:
    """Format one line of a table."""
    return '| ' + ' | '.join(str(cell) for cell in cells) + ' |'


def header(*cells: str) -> str:
    """Format the first two lines of a table."""
    return row(*cells) + '\n' + '|---' * len(cells) + '|'


def print_header(*cells: str) -> None:
    """Print the first two lines of a table."""
    print(header(*cells))


def print_row(*cells: Any) -> None:
    """Print one line of a table at once, so that a long run shows its progress."""
    print(row(*cells), flush=True)
