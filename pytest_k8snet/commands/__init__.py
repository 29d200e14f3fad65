"""The commands of `k8snet`, one module each, imported when used."""
