"""Serve the page on a socket that is opened before the model is loaded."""

import contextlib
import errno
import importlib.util
import logging
import os
import signal
import socket
import sys
import tempfile

from ..runtime import Predictor
from .session import Limits

_REPORTED = (errno.EADDRINUSE, errno.EACCES)


def open_socket(host: str, port: int) -> socket.socket:
    """Return a socket that listens on `host` and `port`; port 0 takes any free one.

    Raises:
        ValueError: The port is in use or not permitted, or the host is not of this machine.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        opened = socket.socket(family, socket.SOCK_STREAM)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((host, port))
        # Connections wait from now on until the model is loaded.
        opened.listen()
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        reason = (reason or str(error)).rstrip('.')
        option = '--port' if getattr(error, 'errno', None) in _REPORTED else '--host or --port'
        raise ValueError(
            f'{host}:{port} cannot be opened: {reason}. Choose another with {option}.'
        ) from error
    return opened


def check_gradio() -> None:
    """Raise `ValueError` if Gradio is not installed."""
    if importlib.util.find_spec('gradio') is None:
        raise ValueError('The page needs Gradio: pip install "vit_dense[web]".')


def serve(
    predictor: Predictor,
    opened: socket.socket,
    *,
    title: str,
    limits: Limits,
    examples: list[str],
) -> None:
    """Serve the page until the process is interrupted.

    Args:
        predictor: The model.
        opened: From `open_socket`.
        title: What to call the model.
        limits: What the page takes.
        examples: Paths of images to offer.
    """
    check_gradio()
    # Read when Gradio is imported: nothing is reported to anybody, neither versions nor errors.
    os.environ['GRADIO_ANALYTICS_ENABLED'] = 'False'
    with tempfile.TemporaryDirectory(prefix='vit-dense-') as folder:
        # Uploads are kept there; Gradio reads the variable when the page is built.
        os.environ['GRADIO_TEMP_DIR'] = folder
        import uvicorn

        from .page import build_app, build_page

        page = build_page(predictor, title=title, limits=limits, examples=examples)
        app = build_app(page, limits)
        config = uvicorn.Config(app, log_level='warning', timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        # Pages that are still open are cut off; that is no error to report.
        logging.getLogger('uvicorn.error').addFilter(lambda _: not server.should_exit)
        # Uvicorn ends in order and then sends itself the signal that ended it.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit())
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[opened])
