"""Checks of the speed between nodes."""
