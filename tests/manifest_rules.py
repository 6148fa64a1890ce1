"""Rules for a rendered set of manifests: pods that the restricted standard takes, and networks that are closed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from manifests import RAY, Manifest, pods


def faults_of_security(items: list[Manifest]) -> Iterator[str]:
    """What the restricted pod security standard refuses, and more: writable roots, tokens, missing sizes."""
    for item in items:
        for pod in pods(item):
            where, spec = f"{item['kind']} {item['metadata']['name']}", pod["spec"]
            context = spec.get("securityContext", {})
            if context.get("runAsNonRoot") is not True or not context.get("runAsUser"):
                yield f"{where}: may run as root"
            if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
                yield f"{where}: no seccomp profile"
            if spec.get("automountServiceAccountToken") is not False:
                yield f"{where}: has a token"
            if spec.get("enableServiceLinks") is not False:
                yield f"{where}: service links set variables such as MLFLOW_PORT"
            if {"hostNetwork", "hostPID", "hostIPC"} & spec.keys() or any("hostPath" in v for v in spec["volumes"]):
                yield f"{where}: reaches into the node"
            for container in spec["containers"]:
                own, sizes = container.get("securityContext", {}), container.get("resources", {})
                if own.get("privileged") or own.get("allowPrivilegeEscalation") is not False:
                    yield f"{where}: {container['name']} may gain privileges"
                if own.get("capabilities") != {"drop": ["ALL"]}:
                    yield f"{where}: {container['name']} keeps capabilities"
                if own.get("readOnlyRootFilesystem") is not True:
                    yield f"{where}: {container['name']} writes to its root"
                if "/tmp" not in [mount["mountPath"] for mount in container.get("volumeMounts", [])]:
                    yield f"{where}: {container['name']} has no /tmp to write to"
                memory = [sizes.get(kind, {}).get("memory") for kind in ("requests", "limits")]
                if None in memory or memory[0] != memory[1] or "cpu" not in sizes.get("requests", {}):
                    yield f"{where}: {container['name']} has no sizes, or memory that is not guaranteed"


def matches(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether matchLabels hold."""
    return selector.get("matchLabels", {}).items() <= labels.items()


def faults_of_selectors(items: list[Manifest]) -> Iterator[str]:
    """Services, budgets and policies that select no pod."""
    labels = [pod["metadata"]["labels"] for item in items for pod in pods(item)]
    for item in items:
        where, spec = f"{item['kind']} {item['metadata']['name']}", item.get("spec", {})
        selectors = []
        if item["kind"] == "Service":
            selectors = [{"matchLabels": spec["selector"]}]
        elif item["kind"] == "PodDisruptionBudget":
            selectors = [spec["selector"]]
        elif item["kind"] == "NetworkPolicy":
            rules = [*spec.get("ingress", []), *spec.get("egress", [])]
            peers = [peer for rule in rules for peer in [*rule.get("from", []), *rule.get("to", [])]]
            near = [peer["podSelector"] for peer in peers if "podSelector" in peer and "namespaceSelector" not in peer]
            selectors = [spec["podSelector"], *near]
        for selector in selectors:
            if not any(matches(selector, of) for of in labels):
                yield f"{where}: {selector} selects no pod"


def faults_of_networks(items: list[Manifest]) -> Iterator[str]:
    """Ways that are open to anybody, and pods that cannot reach what they need."""
    policies = {item["metadata"]["name"]: item["spec"] for item in items if item["kind"] == "NetworkPolicy"}
    deny = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    if deny not in policies.values():
        yield "nothing is denied by default"
    if "dns" not in policies:
        yield "no pod can look up a name"
    for name, spec in policies.items():
        for rule in [*spec.get("ingress", []), *spec.get("egress", [])]:
            peers = rule.get("from", rule.get("to", []))
            if not peers or any(peer in ({}, {"podSelector": {}}, {"namespaceSelector": {}}) for peer in peers):
                yield f"{name}: open to anybody"
            ports = [port["port"] for port in rule.get("ports", [])]
            if any("ipBlock" in peer for peer in peers) and (name, ports) != ("mlflow", [443]):
                yield f"{name}: open to addresses outside"
            if not ports and any("namespaceSelector" in peer for peer in peers):
                yield f"{name}: all ports are open to another namespace"
    for item in items:
        if item["kind"] in RAY:
            own = {"toposampler/part": item["metadata"]["name"], "toposampler/role": "ray"}
            rules = [
                rule
                for spec in policies.values()
                if matches(spec["podSelector"], own)
                for rule in spec.get("ingress", [])
            ]
            peers = [peer for rule in rules if "ports" not in rule for peer in rule.get("from", [])]
            if not any(matches(peer.get("podSelector", {"matchLabels": {"": ""}}), own) for peer in peers):
                yield f"{item['metadata']['name']}: its pods do not reach each other"
