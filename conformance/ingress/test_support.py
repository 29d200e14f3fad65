from __future__ import annotations

import pytest

from pytest_k8snet.judge import ingress


@pytest.mark.k8snet_check(id="NET-INGRESS-003", level="read", title="what brings requests into the cluster is known and maintained")
def test_ingress_support(cluster, verdict):
    """The controllers of IngressClasses and GatewayClasses are named; one that is out of support is advised against.

    Why
        ingress-nginx stands at the edge of many clusters and gets no more fixes, of vulnerabilities neither.
    How it is measured
        IngressClasses, GatewayClasses and workloads with ingress-nginx' label, from the API.
    Expected
        Always green, as far as they can be read: the end of support is advice, an unknown implementation of the Gateway API a
        remark. Skipped where there is none.
    Fix
        Move to a Gateway API implementation; ingress2gateway converts Ingress objects.
    References
        kubernetes/ingress-nginx README (retirement, March 2026); gateway-api.sigs.k8s.io/implementations.
    """
    verdict(ingress.support(cluster))
