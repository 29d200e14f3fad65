"""Checks of how long packets take."""
