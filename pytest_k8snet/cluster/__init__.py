"""The cluster as its API tells it: nodes, Services, and what it claims about its own network."""
