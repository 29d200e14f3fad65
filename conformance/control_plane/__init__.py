"""Checks of the control plane: objects, addresses and tables."""
