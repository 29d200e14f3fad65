"""Checks of encapsulation on the way between nodes."""
