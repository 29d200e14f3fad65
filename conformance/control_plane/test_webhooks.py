from __future__ import annotations

import pytest

from pytest_k8snet.judge import control_plane


@pytest.mark.k8snet_check(id="NET-CONTROL-007", level="read", title="webhooks without which no pod is made have somebody to ask")
def test_webhooks(cluster, verdict):
    """Every admission webhook that refuses pods while nobody answers has a ready endpoint.

    Why
        With failurePolicy Fail a webhook whose pods are gone stops every new pod, its own among them: the cluster does not mend
        itself, and a CNI or kube-proxy pod that a node needs may be refused as well.
    How it is measured
        ValidatingWebhookConfigurations and MutatingWebhookConfigurations with rules for the creation of pods, and the
        EndpointSlices of their Services, from the API. The header of a run names those that are asked about its probe pods.
    Expected
        A ready endpoint of each that has failurePolicy Fail. Others, and URLs, are not judged. Skipped where no webhook is
        asked about pods, and where no EndpointSlice of those that refuse pods may be read.
    Fix
        Start the webhook's pods; if they are refused, exclude their namespace by namespaceSelector, or delete the
        configuration for the time being.
    References
        kubernetes admissionregistration.k8s.io/v1 (failurePolicy, namespaceSelector).
    """
    verdict(control_plane.webhooks(cluster))
