from __future__ import annotations

import pytest

from pytest_k8snet.judge import control_plane


@pytest.mark.k8snet_check(id="NET-CONTROL-001", level="read", title="configuration objects hold values that their APIs know")
def test_objects(cluster, verdict):
    """What kube-proxy's and the CNI's configuration objects say is something that their programs understand.

    Why
        Many of these objects are not validated where they are written: a word from another API (`Never` in Calico's
        Installation, `None` in its IPPool), another case, a typing error. The program then uses a default, or does not start.
    How it is measured
        The objects that claims are read from (docs/claims.md), from the API, once at the start of the run.
    Expected
        Values of the object's own API; the message names them. Objects that could not be read, and a CNI that is not known,
        are remarks; where no object was read at all, the check is skipped.
    Fix
        Correct the named key.
    References
        Calico projectcalico/v3 ippool.go, operator.tigera.io Installation; Cilium cilium-configmap.yaml; Flannel
        Documentation/backends.md; kubernetes pkg/proxy/apis/config.
    """
    verdict(control_plane.objects(cluster))
