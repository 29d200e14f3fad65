from __future__ import annotations

import pytest

from pytest_k8snet.judge import kernel


@pytest.mark.k8snet_check(id="NET-KERNEL-008", level="read", title="the wanted kernel modules are at work")
def test_modules(node, expect, verdict):
    """The modules that the profile names are loaded or built in.

    Why
        A module that is loaded by hand, or by a package that is gone since, is missing after the next boot; what needs it
        falls back to something else or drops packets without a word.
    How it is measured
        /sys/module and /lib/modules/RELEASE/modules.builtin; nothing is loaded by asking.
    Expected
        kernel.modules of the profile; skipped without it. Inconclusive for one that is not loaded on a node without a
        modules.builtin of its kernel (k3d, kind on WSL 2). A bridge with pods for ports and no br_netfilter is advice whatever
        the profile says. What kube-proxy's ipvs mode needs is judged by NET-PROXY-004.
    Fix
        A file in /etc/modules-load.d, and `modprobe`.
    References
        kubernetes documentation, container runtimes: network configuration; modules-load.d(5).
    """
    verdict(kernel.modules(node.facts, expect.kernel))
