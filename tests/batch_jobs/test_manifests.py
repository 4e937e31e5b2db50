"""The files for clusters name only fields that their readers know.

The names (fields.yaml) are from KubeRay's reference of ray.io/v1, Kubernetes' of a container, and
Ray's of its launcher.
"""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

import everything.batch_jobs as batch_jobs
from everything.batch_jobs.annotate import app

HOME = Path(batch_jobs.__file__).parent
ROOT = Path(__file__).parents[2]
FIELDS = {
    kind: set(names)
    for kind, names in yaml.safe_load((Path(__file__).parent / "fields.yaml").read_text()).items()
}


def read(name: str) -> Any:
    return yaml.safe_load((HOME / name).read_text())


def only(tree: Mapping[str, Any], kind: str) -> None:
    assert set(tree) <= FIELDS[kind], set(tree) - FIELDS[kind]


def test_the_job_has_fields_of_its_kind() -> None:
    job = read("rayjob.yaml")
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert set(job) == {"apiVersion", "kind", "metadata", "spec"}
    only(job["spec"], "RayJobSpec")
    assert job["spec"]["submissionMode"] in ("K8sJobMode", "HTTPMode", "SidecarMode")
    cluster = job["spec"]["rayClusterSpec"]
    only(cluster, "RayClusterSpec")
    only(cluster["headGroupSpec"], "HeadGroupSpec")
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for group in groups[1:]:
        only(group, "WorkerGroupSpec")
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for group in groups:
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        (container,) = group["template"]["spec"]["containers"]
        only(container, "Container")
        only(container["resources"], "ResourceRequirements")


def test_the_job_s_command_is_one(tmp_path: Path) -> None:
    words = shlex.split(read("rayjob.yaml")["spec"]["entrypoint"])
    assert words[:3] == ["python", "-m", "everything.batch_jobs.annotate"]
    # --help comes last: all options before it have been understood.
    result = CliRunner().invoke(app, [*words[3:], "--no-such-option"])
    assert result.exit_code == 2
    assert "no-such-option" in result.output
    assert CliRunner().invoke(app, [*words[3:], "--help"]).exit_code == 0


def test_the_workers_of_the_job_fit_their_machines() -> None:
    job = read("rayjob.yaml")["spec"]
    words = shlex.split(job["entrypoint"])
    each = float(words[words.index("--memory") + 1])
    (group,) = job["rayClusterSpec"]["workerGroupSpecs"]
    (container,) = group["template"]["spec"]["containers"]
    requests = container["resources"]["requests"]
    cores, memory = int(requests["cpu"]), float(requests["memory"].removesuffix("Gi"))
    # Ray keeps three tenths of a machine's memory for objects.
    assert cores * each <= 0.8 * memory
    assert int(words[words.index("--max-workers") + 1]) == cores * group["maxReplicas"]


def test_the_launcher_s_machines_have_known_fields() -> None:
    launcher = read("cluster.yaml")
    only(launcher, "launcher")
    assert launcher["head_node_type"] in launcher["available_node_types"]
    for kind in launcher["available_node_types"].values():
        only(kind, "launcher_node_type")
    only(launcher["provider"], "launcher_provider")


def test_the_image_is_built_from_all_that_an_installation_needs() -> None:
    listed = (HOME / "Dockerfile.dockerignore").read_text(encoding="utf-8").split()
    sent = {line[1:] for line in listed if line.startswith("!")}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = {"pyproject.toml", project["readme"], *project["license-files"], "constraints.txt"}
    links = {path.resolve().name for path in (ROOT / "everything").iterdir() if path.is_symlink()}
    assert needed | links | {"everything", "MANIFEST.in"} == sent
    assert all((ROOT / name).exists() for name in sent)


@pytest.mark.parametrize("file", ["cluster.yaml", "rayjob.yaml"])
def test_clusters_use_the_image_of_the_dockerfile(file: str) -> None:
    built = re.findall(r"-t (\S+)", (HOME / "Dockerfile").read_text(encoding="utf-8"))
    used = re.findall(r"image: (\S+)", (HOME / file).read_text(encoding="utf-8"))
    assert used
    assert set(used) <= set(built)
    assert all(version("segevery") in image for image in built)
