"""Measurements: each takes raw values and writes one document. None of them judges."""
