"""Checks of connection tracking."""
