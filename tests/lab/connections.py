"""A pytest plugin (`-p tests.lab.connections`) that writes every address a run connects to or looks up into $K8SNET_TEST_CONNECTIONS."""

from __future__ import annotations

import os
import sys

_FILE = os.environ["K8SNET_TEST_CONNECTIONS"]


def _note(event: str, arguments: tuple[object, ...]) -> None:
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        target = str(arguments[1][0])
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        target = str(arguments[0] if event != "socket.sendto" else arguments[1])
    else:
        return
    with open(_FILE, "a", encoding="utf-8") as file:  # noqa: PTH123 - pathlib would audit more than it opens
        file.write(f"{target}\n")


sys.addaudithook(_note)
