"""A page for trying a model in the browser, built with Gradio (the extra `web`).

`session` has what happens to one image, without a browser; `page` lays it out, `server` serves it.
"""

from .session import Limits, Prediction, predict_file

__all__ = ['Limits', 'Prediction', 'predict_file']
