"""The probe image."""

from __future__ import annotations

import re

DEFAULT_IMAGE = "docker.io/nicolaka/netshoot:v0.15"
"""What both probe pods of a node run. docs/probe-image.md says why this one and what another one must have."""

# As container engines read it (github.com/distribution/reference): [HOST[:PORT]/]PATH[:TAG][@DIGEST].
_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(?::[0-9]+)?"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9A-Fa-f]{32,}"
_REFERENCE = re.compile(rf"(?:{_HOST}/)?{_PART}(?:/{_PART})*(?::{_TAG})?(?:@{_DIGEST})?")


def is_image(reference: str) -> bool:
    """Whether an image can be called so."""
    return _REFERENCE.fullmatch(reference) is not None
