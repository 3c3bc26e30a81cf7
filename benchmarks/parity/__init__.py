"""Comparisons with the code of other authors; run each as `python -m benchmarks.parity.NAME`."""
