"""Checks of the absence of kube-proxy."""
