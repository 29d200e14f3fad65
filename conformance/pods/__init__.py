"""Checks of the tuning of the kernels."""
