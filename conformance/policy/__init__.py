"""Checks of NetworkPolicies."""
