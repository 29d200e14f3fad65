"""Checks of who reaches whom."""
