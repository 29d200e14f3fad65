module k8snet.dev/lab/containerd

go 1.26.0

require github.com/containerd/containerd/v2 v2.4.2
