"""What one pod of the Job does: measure its shard, then keep what it has until somebody has fetched it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from pytest_k8snet.errors import ConfigurationError
from pytest_k8snet.options import IN_CLUSTER
from pytest_k8snet.shards.layout import BUNDLE, COLLECTED, DONE, INDEX_VARIABLE, RESULTS

_POLL_S = 0.5
_TERMINATED = 128 + signal.SIGTERM


def measure(
    shards: int, arguments: Sequence[str], *, keep_s: float, environment: Mapping[str, str] = os.environ, root: Path = Path("/")
) -> int:
    """Run pytest on this pod's shard, wait until its bundle is fetched, and return the pod's exit status.

    A red run is a good measurement: the status is 0 when the bundle was made and fetched. `root` is the folder that `RESULTS` lies in.
    Raises `SystemExit` at SIGTERM: a pod that is deleted does not wait for anybody.
    """
    index = environment.get(INDEX_VARIABLE, "")
    if not index.isdigit() or int(index) >= shards:
        raise ConfigurationError(f"environment {INDEX_VARIABLE}: got {index!r}, want 0 to {shards - 1}, as in a pod of an Indexed Job")
    bundle, done, collected, results = (root / path.lstrip("/") for path in (BUNDLE, DONE, COLLECTED, RESULTS))
    argv = [
        *(sys.executable, "-m", "pytest", f"--k8snet-kubeconfig={IN_CLUSTER}", f"--k8snet-shard={index}/{shards}"),
        *(f"--k8snet-save-bundle={bundle}", f"--k8snet-run-dir={results / 'run'}", "-p", "no:cacheprovider", *arguments),
    ]
    status, ended = _run(argv, results)
    if ended:
        raise SystemExit(_TERMINATED)
    if not bundle.is_file():
        print(f"shard {index}/{shards}: no bundle was written; pytest's exit status was {status}", flush=True)
        return status or 1
    temporary = done.with_suffix(".tmp")
    temporary.write_text(json.dumps({"exit_status": status, "bundle_bytes": bundle.stat().st_size}))
    temporary.replace(done)
    print(f"shard {index}/{shards}: measured; waiting for `k8snet shards collect`", flush=True)
    until = time.monotonic() + keep_s
    with _at_sigterm(_leave):
        while not collected.exists():
            if time.monotonic() > until:
                print(f"shard {index}/{shards}: nobody has fetched the bundle in {keep_s:g} s", flush=True)
                return 1
            time.sleep(_POLL_S)
    return 0


def _run(argv: Sequence[str], folder: Path) -> tuple[int, bool]:
    """Run pytest, and return its exit status and whether SIGTERM came. It is passed on to it, so that it removes its probe pods."""
    ended = False
    running: list[subprocess.Popen[bytes]] = []

    def pass_on(number: int, _frame: FrameType | None) -> None:
        nonlocal ended
        ended = True
        for process in running:
            process.send_signal(number)

    with _at_sigterm(pass_on), subprocess.Popen(argv, cwd=folder) as process:
        running.append(process)
        if ended:
            process.terminate()
        return process.wait(), ended


@contextmanager
def _at_sigterm(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Handle SIGTERM meanwhile: a pod's first process ignores what it does not handle."""
    old = signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if old is None else old)


def _leave(*_: object) -> None:
    raise SystemExit(_TERMINATED)
