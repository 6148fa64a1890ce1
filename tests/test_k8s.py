"""The manifests in k8s/ as they are rendered: no fault in them, and each of many mutations is found."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from manifest_rules import faults_of_networks, faults_of_security, faults_of_selectors
from manifests import (
    SCHEMAS,
    Manifest,
    faults_of_ray,
    faults_of_references,
    faults_of_schema,
    manifests,
    pods,
    ray_specs,
)
from processes import ROOT

from toposampler.tuning.config import load_sweep

pytestmark = [
    pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed"),
    pytest.mark.skipif(not SCHEMAS.exists(), reason=f"no schemas in {SCHEMAS}"),
]
OVERLAYS = ["cpu", "gpu", "nightly", "production"]
SECRETS = set(re.findall(r"create secret \w+ ([\w-]+)", (ROOT / "k8s" / "README.md").read_text()))
NAME = {"RayJob": "train", "RayCluster": "workbench", "Deployment": "mlflow", "NetworkPolicy": "mlflow"}
Parts = tuple[str | int, ...]


def faults(items: list[Manifest]) -> list[str]:
    """All that is wrong with a rendered set; rules are asked only of what the server takes."""
    return list(faults_of_schema(items)) or [
        *faults_of_ray(items),
        *faults_of_references(items, SECRETS),
        *faults_of_security(items),
        *faults_of_selectors(items),
        *faults_of_networks(items),
    ]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_has_no_fault(overlay: str) -> None:
    assert faults(manifests(overlay)) == []


HEAD: Parts = ("spec", "rayClusterSpec", "headGroupSpec", "template", "spec")
WORKERS: Parts = ("spec", "rayClusterSpec", "workerGroupSpecs", 0)
WORKER: Parts = (*WORKERS, "template", "spec")
SUBMITTER: Parts = ("spec", "submitterPodTemplate", "spec")
SERVER: Parts = ("spec", "template", "spec")
FIRST: Parts = ("containers", 0)
ABSENT = object()
RULES: Parts = ("spec", "deletionStrategy", "deletionRules")
RULE: dict[str, Any] = {"policy": "DeleteCluster"}
MUTATIONS: list[tuple[str, str, Parts, Any, str]] = [
    ("a typo in a job", "RayJob", ("spec", "backofLimit"), 3, "'backofLimit' was unexpected"),
    ("a typo in a container", "RayJob", (*WORKER, *FIRST, "imagePullPolice"), "Always", "'imagePullPolice' was"),
    ("a typo in a probe", "Deployment", (*SERVER, *FIRST, "livenessProbe", "httpget"), {}, "'httpget' was unexpected"),
    ("a typo in a limit", "LimitRange", ("spec", "limits", 0, "defaults"), {}, "'defaults' was unexpected"),
    ("an unknown version", "RayJob", ("apiVersion",), "ray.io/v2", "unknown kind"),
    ("a number as text", "RayJob", ("spec", "backoffLimit"), "3", "is not of type 'integer'"),
    ("a start parameter that is a number", "RayJob", (*WORKERS, "rayStartParams", "num-cpus"), 1, "of type 'string'"),
    ("an env value that is a number", "RayJob", (*HEAD, *FIRST, "env", 2, "value"), 0, "is not of type 'string'"),
    ("more than 32 bits", "RayJob", ("spec", "activeDeadlineSeconds"), 2**31, "greater than the maximum"),
    ("a bad quantity", "RayJob", (*WORKER, *FIRST, "resources", "limits", "memory"), "4GB", "is not valid"),
    ("a bad quantity of a core kind", "ResourceQuota", ("spec", "hard", "requests.memory"), "4 Gi", "is not valid"),
    ("a long name", "RayJob", ("metadata", "name"), "x" * 48, "longer than 47"),
    ("a ttl beside rules", "RayJob", ("spec", "ttlSecondsAfterFinished"), 600, "its ttl exclude deletionRules"),
    ("no rules", "RayJob", ("spec", "deletionStrategy"), ABSENT, "the cluster stays when SUCCEEDED"),
    ("a rule for no end", "RayJob", (*RULES, 3), RULE | {"condition": {"jobStatus": "FAILED"}}, "stays when Failed"),
    ("a rule twice", "RayJob", (*RULES, 0), RULE | {"condition": {"jobStatus": "SUCCEEDED"}}, "DeleteCluster twice"),
    ("a rule for two", "RayJob", (*RULES, 0, "condition", "jobDeploymentStatus"), "Failed", "one of jobStatus and"),
    ("workers after all", "RayJob", (*RULES, 2, "condition", "ttlSeconds"), 900, "workers are deleted after their"),
    ("an unknown policy", "RayJob", (*RULES, 0, "policy"), "DeleteAll", "is not one of"),
    ("a sidecar", "RayJob", ("spec", "submissionMode"), "SidecarMode", "which the namespace refuses"),
    ("four fields of a schedule", "RayCronJob", ("spec", "schedule"), "0 2 * *", "has not five fields"),
    ("a typo in a cron job", "RayCronJob", ("spec", "jobTemplate", "backofLimit"), 1, "'backofLimit' was unexpected"),
    ("no schedule", "RayCronJob", ("spec", "schedule"), ABSENT, "'schedule' is a required property"),
    ("an unknown way to submit", "RayJob", ("spec", "submissionMode"), "K8SJobMode", "submissionMode K8SJobMode"),
    ("no deadline", "RayJob", ("spec", "activeDeadlineSeconds"), ABSENT, "no activeDeadlineSeconds"),
    ("no deadline before it runs", "RayJob", ("spec", "preRunningDeadlineSeconds"), ABSENT, "no preRunningDeadline"),
    ("a gated field", "RayJob", ("spec", "rayClusterSpec", "tlsOptions"), {}, "tlsOptions is behind a gate"),
    ("no token", "RayCluster", ("spec", "authOptions", "mode"), "disabled", "no token authentication"),
    ("another version of Ray", "RayJob", ("spec", "rayClusterSpec", "rayVersion"), "2.59.0", "of rayVersion 2.59.0"),
    ("another image", "RayJob", (*WORKER, *FIRST, "image"), "toposampler:latest", "toposampler:latest is not of rayV"),
    ("work on the head", "RayCluster", ("spec", "headGroupSpec", "rayStartParams"), {}, "work may land on the head"),
    ("no gang", "RayJob", (*WORKERS, "minReplicas"), 1, "minReplicas and maxReplicas differ"),
    ("no such config map", "RayJob", (*HEAD, "volumes", 2, "configMap", "name"), "train", "no ConfigMap train"),
    ("no such claim", "RayJob", (*WORKER, "volumes", 1, "persistentVolumeClaim", "claimName"), "run", "no Persistent"),
    ("no such account", "RayJob", (*SUBMITTER, "serviceAccountName"), "rays", "no ServiceAccount rays"),
    ("no such volume", "Deployment", (*SERVER, *FIRST, "volumeMounts", 0, "name"), "temp", "no volume temp"),
    ("no such token", "RayJob", ("spec", "rayClusterSpec", "authOptions", "secretName"), "tokens", "no Secret tokens"),
    ("a secret nobody makes", "Deployment",
     (*SERVER, *FIRST, "env", 0, "valueFrom", "secretKeyRef", "name"), "db", "no Secret db"),
    ("privileged", "RayJob", (*WORKER, *FIRST, "securityContext", "privileged"), True, "may gain privileges"),
    ("escalation", "RayJob", (*SUBMITTER, *FIRST, "securityContext", "allowPrivilegeEscalation"), ABSENT, "may gain"),
    ("root", "Deployment", (*SERVER, "securityContext", "runAsNonRoot"), False, "may run as root"),
    ("no seccomp", "StatefulSet", (*SERVER, "securityContext", "seccompProfile"), ABSENT, "no seccomp profile"),
    ("a capability", "RayJob", (*HEAD, *FIRST, "securityContext", "capabilities"), {"add": ["SYS_ADMIN"]}, "keeps cap"),
    ("a writable root", "RayCluster", ("spec", "headGroupSpec", "template", "spec", *FIRST, "securityContext",
     "readOnlyRootFilesystem"), ABSENT, "writes to its root"),
    ("a folder of the node", "RayJob", (*WORKER, "volumes", 0), {"name": "tmp", "hostPath": {"path": "/"}}, "reaches"),
    ("the node's network", "RayJob", (*HEAD, "hostNetwork"), True, "reaches into the node"),
    ("a token of the API server", "RayJob", (*WORKER, "automountServiceAccountToken"), True, "has a token"),
    ("service links", "Deployment", (*SERVER, "enableServiceLinks"), ABSENT, "service links"),
    ("memory without limit", "RayJob", (*WORKER, *FIRST, "resources", "limits"), ABSENT, "has no sizes"),
    ("a service of nothing", "Service", ("spec", "selector"), {"app": "mlflow"}, "selects no pod"),
    ("a budget of nothing", "PodDisruptionBudget", ("spec", "selector", "matchLabels"), {"a": "b"}, "selects no pod"),
    ("a policy of nothing", "NetworkPolicy", ("spec", "podSelector", "matchLabels"), {"a": "b"}, "selects no pod"),
    ("open to anybody", "NetworkPolicy", ("spec", "ingress", 0, "from"), ABSENT, "mlflow: open to anybody"),
    ("open to all pods", "NetworkPolicy", ("spec", "ingress", 0, "from", 0), {"podSelector": {}}, "open to anybody"),
    ("all ports outside", "NetworkPolicy", ("spec", "egress", 1, "ports"), ABSENT, "open to addresses outside"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "path", "value", "message"), [m[1:] for m in MUTATIONS], ids=[m[0] for m in MUTATIONS]
)
def test_a_mutation_is_found(kind: str, path: Parts, value: object, message: str) -> None:
    items = manifests("nightly")
    place: Any = next(
        i for i in items if i["kind"] == kind and i["metadata"]["name"] == NAME.get(kind, i["metadata"]["name"])
    )
    for part in path[:-1]:
        place = place[part]
    if value is ABSENT:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    assert message in "\n".join(faults(items))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("default-deny", "nothing is denied by default"),
        ("dns", "no pod can look up a name"),
        ("train", "train: its pods do not reach each other"),
    ],
)
def test_a_policy_that_is_missing_is_found(name: str, message: str) -> None:
    items = [i for i in manifests("cpu") if (i["kind"], i["metadata"]["name"]) != ("NetworkPolicy", name)]
    assert message in faults(items)


def configurations(items: list[Manifest]) -> dict[str, Any]:
    """The files that are mounted, by their names."""
    return {name: yaml.safe_load(text) for i in items if i["kind"] == "ConfigMap" for name, text in i["data"].items()}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_each_worker_of_a_configuration_finds_its_pod(overlay: str) -> None:
    items = manifests(overlay)
    files = configurations(items)
    trains = ("train", "ensemble")
    for job in (item for item in items if item["kind"] == "RayJob" and item["metadata"]["name"] in trains):
        config = files[f"{job['metadata']['name']}.yaml"]
        workers = ray_specs(job)["workerGroupSpecs"][0]
        limits = workers["template"]["spec"]["containers"][0]["resources"]["limits"]
        assert workers["replicas"] == config["cluster"]["num_workers"]
        gpus = overlay in ("gpu", "production")
        assert ("nvidia.com/gpu" in limits) == config["cluster"].get("use_gpu", False) == gpus
    ensemble = files["ensemble.yaml"]
    assert ensemble["cluster"]["num_workers"] == ensemble["system"]["n_generators"]


def test_a_sweep_on_gpus_trains_a_population_on_each(tmp_path: Path) -> None:
    items = manifests("gpu")
    content = configurations(items)["sweep.yaml"]
    config = tmp_path / "sweep.yaml"
    config.write_text(yaml.safe_dump(content | {"base": str(ROOT / "configs" / Path(content["base"]).name)}))
    sweep = load_sweep(config)
    job = next(i for i in items if i["kind"] == "RayJob" and i["metadata"]["name"] == "sweep")
    workers = ray_specs(job)["workerGroupSpecs"][0]
    assert workers["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert sweep.together
    assert sweep.base.cluster.use_gpu
    assert sweep.base.cluster.gpus_per_worker == 1
    assert sweep.config.repeats > 1
    assert isinstance(sweep.config.trials_per_worker, int), "auto asks the head, which has no GPU"
    assert sweep.config.trials_per_worker * workers["replicas"] == sweep.config.trials


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_champion_of_the_sweep_is_evaluated_where_there_is_room(overlay: str) -> None:
    items = manifests(overlay)
    job = next(i for i in items if i["kind"] == "RayJob" and i["metadata"]["name"] == "evaluate")
    words = job["spec"]["entrypoint"].split()
    assert f"models:/{configurations(items)['sweep.yaml']['name']}@champion" in words
    workers = ray_specs(job)["workerGroupSpecs"][0]
    assert int(words[words.index("--workers") + 1]) == workers["replicas"]
    assert "nvidia.com/gpu" not in workers["template"]["spec"]["containers"][0]["resources"]["limits"]
    written = [word for word in words if word.startswith("/")]
    assert len(written) == 2
    assert all(word.startswith("/runs/") for word in written)  # all else is read only, or of one pod
    for pod in pods(job)[:2]:
        assert "/runs" in [mount["mountPath"] for mount in pod["spec"]["containers"][0]["volumeMounts"]]


def test_the_nightly_evaluation_is_the_one_by_hand_but_for_its_seed_and_place() -> None:
    items = manifests("nightly")
    (cron,) = (item for item in items if item["kind"] == "RayCronJob")
    by_hand = next(i for i in items if i["kind"] == "RayJob" and i["metadata"]["name"] == "evaluate")
    nightly = json.loads(json.dumps(cron["spec"]["jobTemplate"]).replace('"nightly"', '"evaluate"'))
    words = nightly["entrypoint"].split()
    assert words[words.index("--seed") + 1 :][:2] == ["$(date", "+%Y%m%d)"]
    assert set(by_hand["spec"]["entrypoint"].split()) - set(words) == {"/runs/evaluations/lines-sweep"}
    assert nightly | {"entrypoint": ""} == by_hand["spec"] | {"entrypoint": ""}


def test_the_server_answers_to_the_name_that_jobs_call_it_by() -> None:
    for overlay in OVERLAYS:
        items = manifests(overlay)
        server = next(i for i in items if i["kind"] == "Deployment")["spec"]["template"]["spec"]["containers"][0]
        hosts = next(a for a in server["args"] if a.startswith("--allowed-hosts=")).partition("=")[2].split(",")
        assert "mlflow:*" in hosts
        rays = [pod for i in items for pod in pods(i) if pod["metadata"]["labels"]["toposampler/role"] == "ray"]
        for pod in rays:
            assert {"name": "MLFLOW_TRACKING_URI", "value": "http://mlflow:5000"} in pod["spec"]["containers"][0]["env"]
        for ingress in (i for i in items if i["kind"] == "Ingress"):
            assert ingress["spec"]["rules"][0]["host"] in hosts
            assert ingress["spec"]["tls"][0]["secretName"] in SECRETS


def test_the_image_has_the_ray_that_the_project_asks_for() -> None:
    version = re.search(r"^ARG RAY_VERSION=(.+)$", (ROOT / "k8s/image/Dockerfile").read_text(), re.MULTILINE)
    asked = re.search(r"ray\[.*\]==(.+)\.\*", (ROOT / "pyproject.toml").read_text())
    assert version is not None
    assert asked is not None
    assert version[1].startswith(f"{asked[1]}.")
    assert f"\nray=={version[1]}\n" in (ROOT / "k8s/image/constraints.txt").read_text()
    for job in (item for item in manifests("cpu") if item["kind"] in ("RayJob", "RayCluster")):
        assert ray_specs(job)["rayVersion"] == version[1]
