"""Kubernetes manifests, rendered and evaluated without a cluster: schemas, the operator's refusals, and references."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from processes import ROOT

SCHEMAS = ROOT.parent / "shared" / "schemas"
QUANTITY = r"^[+-]?(\d+|\d+\.\d*|\.\d+)(m|[kMGTPE]|[KMGTPE]i|[eE][+-]?\d+)?$"
PREFIX = "#/definitions/"
RAY = ("RayJob", "RayCronJob", "RayCluster")
Manifest = dict[str, Any]


@cache
def render(overlay: str) -> str:
    """The rendered overlay, as text."""
    command = ["kubectl", "kustomize", str(ROOT / "k8s" / "overlays" / overlay)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def manifests(overlay: str) -> list[Manifest]:
    """A fresh copy of the rendered overlay."""
    return list(yaml.load_all(render(overlay), yaml.CSafeLoader))


def closed(schema: Any) -> Any:
    """`schema`, as strict as the server: unknown keys refused, int-or-string, nullable, defaults filled first."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"anyOf": [{"type": "integer"}, {"type": "string", "pattern": QUANTITY}]}
    new = {key: closed(value) for key, value in schema.items() if key not in ("default", "format", "properties")}
    if properties := schema.get("properties"):
        new["properties"] = {key: closed(value) for key, value in properties.items()}  # one may be called `default`
        new["additionalProperties"] = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
        new["required"] = [key for key in schema.get("required", []) if "default" not in properties[key]]
    if schema.get("format") == "int32":
        new |= {"minimum": -(2**31), "maximum": 2**31 - 1}
    return {"anyOf": [new, {"type": "null"}]} if schema.get("nullable") else new


@cache
def validators() -> dict[tuple[str, str], Draft202012Validator]:
    """For each (apiVersion, kind), what checks it."""
    core = json.loads((SCHEMAS / "kubernetes-v1.32.2" / "_definitions.json").read_text())["definitions"]
    core["io.k8s.apimachinery.pkg.api.resource.Quantity"] = {
        "anyOf": [{"type": "string", "pattern": QUANTITY}, {"type": "number"}]
    }
    core = {name: closed(schema) for name, schema in core.items()}
    found = {}
    for name, schema in core.items():
        for of in schema.get("x-kubernetes-group-version-kind", []):
            version = f"{of['group']}/{of['version']}" if of["group"] else of["version"]
            found[version, of["kind"]] = Draft202012Validator({"$ref": PREFIX + name, "definitions": core})
    for path in (SCHEMAS / "kuberay-v1.7.0").glob("*.yaml"):
        crd = yaml.load(path.read_text(), yaml.CSafeLoader)["spec"]
        schema = next(v for v in crd["versions"] if v["name"] == "v1")["schema"]["openAPIV3Schema"]
        schema["properties"]["metadata"] = {"x-kubernetes-preserve-unknown-fields": True, "type": "object"}
        found["ray.io/v1", crd["names"]["kind"]] = Draft202012Validator(closed(schema))
        if crd["names"]["kind"] == "RayJob":
            found["ray.io/v1", "RayCronJob"] = Draft202012Validator(closed(cron_job(schema)))
    return found


def cron_job(job: Any) -> dict[str, Any]:
    """The schema of a RayCronJob from that of a RayJob: KubeRay's Go types have these three fields in its spec."""
    spec = {"schedule": {"type": "string"}, "suspend": {"type": "boolean"}, "jobTemplate": job["properties"]["spec"]}
    spec_schema = {"type": "object", "properties": spec, "required": ["schedule", "jobTemplate"]}
    return {**job, "properties": {**job["properties"], "spec": spec_schema}}


def faults_of_schema(items: list[Manifest]) -> Iterator[str]:
    """What the API server would refuse."""
    for item in items:
        validator = validators().get((item.get("apiVersion", ""), item.get("kind", "")))
        if validator is None:
            yield f"{item.get('kind')}: unknown kind of {item.get('apiVersion')}"
            continue
        for error in validator.iter_errors(item):
            yield f"{item['kind']} {item['metadata']['name']}: {error.json_path}: {error.message[:200]}"


def ray_specs(item: Manifest) -> Manifest:
    """The RayClusterSpec of a RayJob, a RayCronJob or a RayCluster."""
    return item["spec"] if item["kind"] == "RayCluster" else job_spec(item)["rayClusterSpec"]


def job_spec(item: Manifest) -> Manifest:
    """The RayJobSpec of a RayJob or a RayCronJob; another object's own spec."""
    spec: Manifest = item["spec"]["jobTemplate"] if item["kind"] == "RayCronJob" else item["spec"]
    return spec


def pods(item: Manifest) -> list[Manifest]:
    """The pod templates of an object."""
    if item["kind"] in ("Deployment", "StatefulSet"):
        return [item["spec"]["template"]]
    if item["kind"] not in RAY:
        return []
    spec, job = ray_specs(item), job_spec(item)
    found = [spec["headGroupSpec"]["template"], *(group["template"] for group in spec["workerGroupSpecs"])]
    return found + ([job["submitterPodTemplate"]] if "submitterPodTemplate" in job else [])


def faults_of_ray(items: list[Manifest]) -> Iterator[str]:
    """What the operator refuses, or what ends in a cluster that does not do what it is for."""
    for item in items:
        if item["kind"] not in RAY:
            continue
        name, spec, cluster = item["metadata"]["name"], job_spec(item), ray_specs(item)
        if len(name) > 47:
            yield f"{name}: longer than 47 characters"
        for gated in {"networkPolicy", "tlsOptions"} & cluster.keys():
            yield f"{name}: {gated} is behind a gate"
        if cluster.get("authOptions", {}).get("mode") != "token":
            yield f"{name}: no token authentication"
        if cluster["headGroupSpec"].get("rayStartParams", {}).get("num-cpus") != "0":
            yield f"{name}: work may land on the head"
        for group in cluster["workerGroupSpecs"]:
            if not group["minReplicas"] == group.get("replicas") == group["maxReplicas"]:
                yield f"{name}: replicas, minReplicas and maxReplicas differ"
        for image in {container["image"] for pod in pods(item) for container in pod["spec"]["containers"]}:
            if not re.search(rf"-ray{re.escape(str(cluster.get('rayVersion')))}-(cpu|gpu)$", image):
                yield f"{name}: image {image} is not of rayVersion {cluster.get('rayVersion')}"
        if item["kind"] == "RayCronJob" and not re.fullmatch(r"(\S+ ){4}\S+", item["spec"]["schedule"]):
            yield f"{name}: schedule {item['spec']['schedule']} has not five fields"
        if item["kind"] != "RayCluster":
            if spec.get("submissionMode") not in ("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"):
                yield f"{name}: submissionMode {spec.get('submissionMode')}"
            if spec.get("submissionMode") == "SidecarMode":
                yield f"{name}: the operator's sidecar has no securityContext, which the namespace refuses"
            yield from (f"{name}: {fault}" for fault in faults_of_deletion(spec))
            for deadline in {"activeDeadlineSeconds", "preRunningDeadlineSeconds", "backoffLimit"} - spec.keys():
                yield f"{name}: no {deadline}"


def faults_of_deletion(spec: Manifest) -> Iterator[str]:
    """What the operator refuses of a RayJob's deletion rules, and clusters that would stay."""
    if "shutdownAfterJobFinishes" in spec or "ttlSecondsAfterFinished" in spec:
        yield "shutdownAfterJobFinishes and its ttl exclude deletionRules"
    seconds: dict[tuple[str, str], int] = {}
    for rule in spec.get("deletionStrategy", {}).get("deletionRules", []):
        condition = rule["condition"]
        if ("jobStatus" in condition) == ("jobDeploymentStatus" in condition):
            yield f"{rule['policy']}: one of jobStatus and jobDeploymentStatus"
        when = condition.get("jobStatus", condition.get("jobDeploymentStatus"))
        if (when, rule["policy"]) in seconds:
            yield f"{rule['policy']} twice when {when}"
        seconds[when, rule["policy"]] = condition.get("ttlSeconds", 0)
    for when in ("SUCCEEDED", "Failed"):  # that of a job whose deadline passed is the second only
        if (when, "DeleteCluster") not in seconds:
            yield f"the cluster stays when {when}"
        elif seconds.get((when, "DeleteWorkers"), 0) > seconds[when, "DeleteCluster"]:
            yield f"when {when}, workers are deleted after their cluster"


def faults_of_references(items: list[Manifest], secrets: set[str]) -> Iterator[str]:
    """Names that nothing has; `secrets` are those that README.md tells to create."""
    named = {(item["kind"], item["metadata"]["name"]) for item in items} | {("Secret", name) for name in secrets}
    for item in items:
        wanted = set()
        for pod in pods(item):
            spec = pod["spec"]
            wanted.add(("ServiceAccount", spec.get("serviceAccountName")))
            for volume in spec.get("volumes", []):
                if "configMap" in volume:
                    wanted.add(("ConfigMap", volume["configMap"]["name"]))
                if "persistentVolumeClaim" in volume:
                    wanted.add(("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]))
            own = {volume["name"] for volume in spec.get("volumes", [])}
            own |= {claim["metadata"]["name"] for claim in item["spec"].get("volumeClaimTemplates", [])}
            for container in spec["containers"]:
                wanted |= {("volume", m["name"]) for m in container.get("volumeMounts", []) if m["name"] not in own}
                for variable in container.get("env", []):
                    if key := variable.get("valueFrom", {}).get("secretKeyRef"):
                        wanted.add(("Secret", key["name"]))
        if item["kind"] in RAY:
            wanted.add(("Secret", ray_specs(item).get("authOptions", {}).get("secretName")))
        yield from (f"{item['kind']} {item['metadata']['name']}: no {kind} {name}" for kind, name in wanted - named)
