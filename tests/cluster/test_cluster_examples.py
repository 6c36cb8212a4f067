"""The examples of clusters have the structure that their programs ask for, and call the command with its own flags."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest

yaml = pytest.importorskip("yaml")

from lithepose.cli.calls.help import flags_of
from lithepose.cli.cluster import cluster

EXAMPLES = Path(__file__).parents[2] / "examples" / "cluster"


def test_ray_up_has_the_structure_of_rays_schema():
    jsonschema = pytest.importorskip("jsonschema")
    found = importlib.util.find_spec("ray")
    if found is None or found.origin is None:
        pytest.skip("ray is not installed")
    schema = json.loads((Path(found.origin).parent / "autoscaler" / "ray-schema.json").read_text())
    content = yaml.safe_load((EXAMPLES / "ray-up.yaml").read_text())
    jsonschema.validate(content, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content | {"head_node": 3, "no_such_key": 1}, schema)
    kinds = content["available_node_types"]
    assert content["head_node_type"] in kinds
    assert all("InstanceType" in kind["node_config"] for kind in kinds.values())
    head, worker = (" ".join(content[f"{kind}_start_ray_commands"]) for kind in ("head", "worker"))
    assert "--include-dashboard=false" in head
    assert "RAY_USAGE_STATS_ENABLED=0" in head
    assert "RAY_USAGE_STATS_ENABLED=0" in worker


def test_kuberay_has_what_its_resources_require():
    ray_cluster, job = yaml.safe_load_all((EXAMPLES / "kuberay.yaml").read_text())
    assert (ray_cluster["apiVersion"], ray_cluster["kind"]) == ("ray.io/v1", "RayCluster")
    spec = ray_cluster["spec"]
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    for group in groups:
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        (container,) = group["template"]["spec"]["containers"]
        assert {"name", "image", "resources"} <= container.keys()
        assert {"name": "RAY_USAGE_STATS_ENABLED", "value": "0"} in container["env"]
    for group in spec["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        assert group["groupName"]
        (container,) = group["template"]["spec"]["containers"]
        assert group["rayStartParams"]["num-cpus"] == container["resources"]["requests"]["cpu"]
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    pod = job["spec"]["template"]["spec"]
    assert pod["restartPolicy"] == "Never", "podFailurePolicy asks for it"
    (driver,) = pod["containers"]
    assert driver["command"] == ["lithepose", "cluster"]
    host = ray_cluster["metadata"]["name"] + "-head-svc"
    assert f"--address=ray://{host}:10001" in driver["args"]
    failures = [rule for rule in job["spec"]["podFailurePolicy"]["rules"] if "onExitCodes" in rule]
    assert all(rule["onExitCodes"]["containerName"] == driver["name"] for rule in failures)


def test_the_flags_of_the_examples_are_those_of_the_command():
    text = "".join(path.read_text() for path in EXAMPLES.glob("*.yaml"))
    _, job = yaml.safe_load_all((EXAMPLES / "kuberay.yaml").read_text())
    (driver,) = job["spec"]["template"]["spec"]["containers"]
    flags = {argument.partition("=")[0] for argument in driver["args"] if argument.startswith("--")}
    (called,) = re.findall(r'"lithepose cluster (.*?)"', text, re.DOTALL)
    flags |= set(re.findall(r"--[a-z-]+", called))
    assert flags
    assert flags <= set(flags_of(cluster))
