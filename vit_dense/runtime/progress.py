"""Tell how far a long run is."""

import sys
import time

_SECONDS_BETWEEN_LINES = 5.0
_SECONDS_ON_TERMINAL = 0.5


class Progress:
    """Tell on stderr how far a run is: every five seconds, and on a terminal in place."""

    def __init__(self, total: int, what: str) -> None:
        self.total = total
        self.what = what
        self.done = 0
        self._start = self._last = time.monotonic()

    def advance(self, count: int = 1) -> None:
        """Count so many more."""
        self.done += count
        now = time.monotonic()
        wait = _SECONDS_ON_TERMINAL if sys.stderr.isatty() else _SECONDS_BETWEEN_LINES
        if now - self._last >= wait:
            self._last = now
            self._show(now)

    def close(self) -> None:
        """End the line."""
        if sys.stderr.isatty() and self._last > self._start:
            sys.stderr.write('\n')

    def _show(self, now: float) -> None:
        rate = self.done / (now - self._start)
        left = max(0, self.total - self.done) / rate
        of = f'/{self.total}' if self.total else ''
        text = f'{self.done}{of} {self.what}, {rate:.1f} per second, {_duration(left)} left'
        sys.stderr.write(f'\r{text:70}' if sys.stderr.isatty() else f'{text}\n')
        sys.stderr.flush()


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours}:{minutes:02d}:{rest:02d}' if hours else f'{minutes}:{rest:02d}'
