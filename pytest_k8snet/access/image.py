"""The probe image."""

from __future__ import annotations

DEFAULT_IMAGE = "docker.io/nicolaka/netshoot:v0.15"
"""What both probe pods of a node run. docs/probe-image.md says why this one and what another one must have."""
