"""Checks and drawing of data, with NumPy, OpenCV and Pillow alone: no framework is imported."""
