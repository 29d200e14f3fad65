"""Checks of Services by packets."""
