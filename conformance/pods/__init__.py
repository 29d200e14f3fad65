"""Checks of pods that were there before."""
