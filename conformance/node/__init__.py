"""Checks of nodes."""
