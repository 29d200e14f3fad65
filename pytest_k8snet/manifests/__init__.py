"""Kubernetes objects that a user applies, as text with comments: printed by ``k8snet manifests``."""
