"""The accounts that `k8snet manifests rbac` prints, made on a lab."""

from __future__ import annotations

from pathlib import Path

import yaml

from tests.lab.suite import Lab, k8snet


def least_rights(lab: Lab, folder: Path, *options: str, without: str | None = None) -> str:
    """Make the account that `k8snet manifests rbac` prints, on request without the rights on a resource; return its kubeconfig."""
    manifests = [item for item in yaml.safe_load_all(k8snet("manifests", "rbac", *options)) if item is not None]
    for manifest in manifests:
        if "rules" in manifest:
            manifest["rules"] = [rule for rule in manifest["rules"] if rule["resources"] != [without]]
        lab.client.apply(manifest)
    (account,) = (item["metadata"] for item in manifests if item["kind"] == "ServiceAccount")
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
    where = f"/api/v1/namespaces/{account['namespace']}/serviceaccounts/{account['name']}/token"
    token = lab.client.api.post(where, request)["status"]["token"]
    config = yaml.safe_load(Path(lab.kubeconfig).read_text())
    config["users"][0]["user"] = {"token": token}
    path = folder / "least-rights"
    path.write_text(yaml.safe_dump(config))
    path.chmod(0o600)
    return str(path)
