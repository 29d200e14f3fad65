"""The embedded cluster: a real Kubernetes cluster on one Linux machine, made of kernels in user space."""
