"""Prove that a Kubernetes cluster's network does what it claims."""
