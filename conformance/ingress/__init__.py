"""Checks of ingress controllers."""
