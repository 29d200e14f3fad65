"""Policies that may keep packets of probe pods away: of Kubernetes, and of CNIs that have kinds of their own."""
