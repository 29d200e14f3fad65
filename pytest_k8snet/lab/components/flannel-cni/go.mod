// The CNI plugin of flannel's configuration.
module k8snet.dev/lab/flannel-cni

go 1.26.0
