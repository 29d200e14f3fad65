"""What the cluster says of itself, from the configuration objects of kube-proxy and of its CNI. A claim is not yet a truth."""
