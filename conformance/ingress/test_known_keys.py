from __future__ import annotations

import pytest

from pytest_k8snet.judge import ingress


@pytest.mark.k8snet_check(id="NET-INGRESS-001", level="read", title="ingress-nginx knows every key of its ConfigMap")
def test_known_keys(cluster, verdict):
    """ingress-nginx' ConfigMap has no key that the controller does not know.

    Why
        Unknown keys are dropped without a word: `proxy-buffers`, which F5's controller has, does nothing here, and everybody
        believes that buffers are tuned.
    How it is measured
        The ConfigMap that the controller's flag --configmap names, from the API; only names of keys are kept of it, and the
        values of a few.
    Expected
        Keys of the project's documentation. Skipped where there is no ingress-nginx.
    Fix
        Take the key that is meant: proxy-buffers-number and proxy-buffer-size instead of proxy-buffers, for example.
    References
        kubernetes/ingress-nginx docs/user-guide/nginx-configuration/configmap.md, internal/ingress/controller/template/configmap.go.
    """
    verdict(ingress.known_keys(cluster))
