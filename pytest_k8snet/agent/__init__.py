"""The program that runs on nodes and in pods. It imports nothing of this package."""
