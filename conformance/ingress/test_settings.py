from __future__ import annotations

import pytest

from pytest_k8snet.judge import ingress


@pytest.mark.k8snet_check(id="NET-INGRESS-002", level="read", title="ingress-nginx has the wanted connections, buffers and HSTS")
def test_ingress_settings(cluster, expect, verdict):
    """ingress-nginx is configured with the kept connections, buffers and HSTS values that the profile wants.

    Why
        Without kept connections to pods every request costs a handshake and a conntrack entry; buffers that are too small make
        errors 502 of large headers; HSTS that is off lets the first request go unencrypted.
    How it is measured
        The controller's ConfigMap, from the API. A key that is not set has the controller's own value (config.go of 1.15.1).
        Annotations of a single Ingress may differ, and what nginx runs with is not seen here.
    Expected
        ingress.settings of the profile; skipped without it, and where there is no ingress-nginx.
    Fix
        Set the key in the ConfigMap that the message names.
    References
        kubernetes/ingress-nginx docs/user-guide/nginx-configuration/configmap.md.
    """
    verdict(ingress.settings(cluster, expect.common.ingress))
