# SPDX-License-Identifier: Apache-2.0
"""Give a service account the rights of a kustomization, as ``kubectl apply -k`` would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tests.harness.airflow import wait_for
from tests.harness.kubernetes.client import Client, Refused

HOURS_24 = 86400


def resources(kustomization: Path, namespace: str) -> list[dict[str, Any]]:
    """The objects of a folder with a ``kustomization.yaml``, in a namespace in place of the one that it names."""
    listed = yaml.safe_load((kustomization / "kustomization.yaml").read_text())["resources"]
    found = [document for name in listed for document in yaml.safe_load_all((kustomization / name).read_text())]
    for document in found:
        document["metadata"]["namespace"] = namespace
        for subject in document.get("subjects", []):
            if subject["kind"] == "ServiceAccount":
                subject["namespace"] = namespace
    return found


def grant(admin: Client, kustomization: Path, namespace: str, account: str = "") -> str:
    """Create the objects, and answer a token of their service account.

    :param kustomization: The folder.
    :param account: Another name of the service account, beside others with the same rights.
    """
    found = resources(kustomization, namespace)
    if account:
        _rename_account(found, account)
    for document in found:
        admin.apply(document, namespace)
        if document["kind"] == "ServiceAccount":
            account = document["metadata"]["name"]
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": HOURS_24}}
    token = str(admin.json("POST", path, asked)["status"]["token"])
    client = Client(admin.url, admin.authority, token)
    for document in found:
        for rule in document.get("rules", []):
            wait_for(f"{account} may {rule}", lambda rule=rule: may(client, rule, namespace), 10, 0.05)
    return token


def revoke(admin: Client, namespace: str, account: str) -> None:
    """Delete a service account, by which its tokens are refused from some seconds later on."""
    admin.delete(f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}")


def _rename_account(documents: list[dict[str, Any]], account: str) -> None:
    for document in documents:
        if document["kind"] == "ServiceAccount":
            document["metadata"]["name"] = account
        for subject in document.get("subjects", []):
            if subject["kind"] == "ServiceAccount":
                subject["name"] = account
                document["metadata"]["name"] = f"{account}-binding"


def may(client: Client, rule: dict[str, Any], namespace: str) -> bool:
    """Whether somebody may do all that a rule of a role allows; the API learns of new roles a little later."""
    return all(
        _may(client, {"namespace": namespace, "group": group, "resource": resource, "verb": verb})
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    )


def _may(client: Client, action: dict[str, str]) -> bool:
    action["resource"], _, action["subresource"] = action["resource"].partition("/")
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": action},
    }
    try:
        answer = client.json("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
    except Refused:
        return False
    return bool(answer["status"]["allowed"])
