"""The conformance suite: one folder an area, one function a check."""
