"""Checks of the service proxy."""
