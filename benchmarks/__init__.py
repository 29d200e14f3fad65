"""What the project costs: `python -m benchmarks --help`."""
