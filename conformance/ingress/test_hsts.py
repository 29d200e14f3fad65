from __future__ import annotations

import pytest

from pytest_k8snet.judge import ingress
from pytest_k8snet.record.ingress import IngressRecord


@pytest.mark.k8snet_check(id="NET-INGRESS-008", level="probe", title="answers over TLS have the wanted HSTS")
def test_hsts(measure, expect, verdict):
    """Answers over TLS have Strict-Transport-Security, with the age that the profile wants.

    Why
        Without it the first request of every visit may go unencrypted, and be answered by somebody else. A ConfigMap that says
        so proves nothing: ingress-nginx adds the header only where it has a certificate for the name.
    How it is measured
        The header in answers to requests over TLS to a pod of the run's own, for the name of an Ingress of its own with TLS.
        The certificate is not judged: it is the controller's default one.
    Expected
        max-age of hsts_max_age of the route at least. Skipped where no route has that.
    Blind spots
        The controller's general setting is seen. An annotation may say otherwise for your own hosts.
    Fix
        ingress-nginx: hsts, hsts-max-age. nginx: add_header Strict-Transport-Security "max-age=31536000" always.
    References
        RFC 6797.
    """
    record = IngressRecord.from_document(measure("ingress", "cluster"))
    verdict(ingress.hsts(record, expect.common.ingress))
