"""Checks of packet sizes."""
