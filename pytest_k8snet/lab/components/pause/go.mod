// The program that holds a pod's namespaces.
module k8snet.dev/lab/pause

go 1.26.0
