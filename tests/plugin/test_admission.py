"""Who decides about the probe pods is said before any is made."""

from __future__ import annotations

from tests.plugin.bench import Bench

WEBHOOKS = """
    from pytest_k8snet.cluster.admission import Webhook

    fake.webhooks = (
        Webhook("a.policy", "ValidatingWebhookConfiguration policy", True, True, "policy/hook", 1),
        Webhook("b.mesh", "MutatingWebhookConfiguration mesh", False, True, "mesh/hook"),
        Webhook("c.other", "MutatingWebhookConfiguration other", True, False, "other/hook", 1),
    )
"""


def test_header_names_webhooks_that_are_asked_about_probe_pods(bench: Bench) -> None:
    bench.cluster(WEBHOOKS)
    ran = bench.run("--k8snet-checks=NET-CONTROL-007")
    assert ran.line("k8snet: admission webhooks") == (
        "k8snet: admission webhooks decide about the probe pods: a.policy (refuses when nobody answers), "
        "b.mesh (lets through when nobody answers)"
    )
    assert ran.verdicts == {"NET-CONTROL-007[cluster]": "pass"}
