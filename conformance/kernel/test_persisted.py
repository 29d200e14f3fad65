from __future__ import annotations

import pytest

from pytest_k8snet.judge import kernel


@pytest.mark.k8snet_check(id="NET-KERNEL-007", level="read", title="sysctls outlast a reboot")
def test_persisted(node, expect, verdict):
    """What the files of sysctl.d give at the next boot is what the profile wants, and what is in force now.

    Why
        A value that somebody set by hand works until the node is started anew, months later and together with all others.
    How it is measured
        *.conf in /etc/sysctl.d, /run/sysctl.d, /usr/local/lib/sysctl.d and /usr/lib/sysctl.d as systemd-sysctl reads them: a
        name in an earlier folder hides the same name in later ones, all are applied in the order of their names, patterns
        leave alone what is assigned by name or excluded. /etc/sysctl.conf counts where systemd did not start the machine, or
        by a link in one of the folders. Beside them the values in force, less those of single devices.
    Expected
        A failure only with kernel.persisted: required of the profile, for the sysctls that it wants on nodes and for those
        that a file assigns and that have another value now; else the check is skipped and tells it as advice: Talos,
        Bottlerocket and operators keep values elsewhere. What kube-proxy makes of nf_conntrack_max is NET-CONNTRACK-003's,
        and what forwarding is now NET-KERNEL-006's.
    Fix
        /etc/sysctl.d/*.conf and `sysctl --system`, or the machine configuration of the distribution.
    References
        sysctl.d(5); sysctl(8).
    """
    verdict(kernel.persisted(node.facts, expect.kernel))
