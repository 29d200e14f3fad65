"""What is expected of a cluster, and where each expectation comes from."""
