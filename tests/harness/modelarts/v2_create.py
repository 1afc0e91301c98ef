# SPDX-License-Identifier: Apache-2.0
"""v2: check the body of a creation (CreateTrainingJob, tables 2 to 29) and make the run."""

from __future__ import annotations

from typing import Any

from tests.harness.modelarts.catalogue import POOL_ID, flavor_of, image_of, spec_of
from tests.harness.modelarts.checks import Fields, check_code, check_place
from tests.harness.modelarts.errors import Refused
from tests.harness.modelarts.faults import Faults
from tests.harness.modelarts.obs import Obs

WRONG = "2788"
_HOME = "/home/ma-user/modelarts"


async def run_of(body: Fields, obs: Obs, faults: Faults) -> dict[str, Any]:
    """Check a body and return its run.

    :raises Refused: It is not as the documents say.
    """
    algorithm, spec = body.inner("algorithm"), body.inner("spec")
    if body.value.get("tasks"):
        raise Refused(WRONG, "tasks is not implemented, give spec")
    flavor, nodes = resources(spec.inner("resource"))
    inputs, outputs = _channels(algorithm, "inputs"), _channels(algorithm, "outputs")
    names = [channel["name"] for channel in (*inputs, *outputs)]
    if len(set(names)) < len(names):
        raise Refused("2753")
    parameters = algorithm.pairs("parameters", "name")
    if len({name for name, _ in parameters}) < len(parameters):
        raise Refused("2767")
    log = spec.inner("log_export_path").text("obs_url")
    for url in [channel["url"] for channel in (*inputs, *outputs)] + ([log] if log else []):
        await check_place(obs, url)
    known = spec_of("spec_code", flavor["flavor_id"])
    return {
        "dialect": "v2",
        "job_name": body.inner("metadata").name("name"),
        "nodes": nodes,
        "flavor": flavor["flavor_id"],
        "sold_out": known is not None and known["no_resource"],
        "parameters": parameters,
        "env": _environments(algorithm),
        "remote": [],
        "inputs": inputs,
        "outputs": outputs,
        "log_url": log,
        "log_files": [f"worker-{index}" for index in range(nodes)],
    } | await _program(algorithm, obs, faults)


def resources(resource: Fields) -> tuple[dict[str, Any], int]:
    """The flavour and the number of nodes."""
    flavor_id, pool_id = resource.text("flavor_id", needed=True), resource.text("pool_id")
    if pool_id and pool_id != POOL_ID:
        raise Refused("2890", pool_id)
    flavor = flavor_of(flavor_id)
    if flavor is None:
        raise Refused("2781", flavor_id)
    nodes = resource.number("node_count")
    nodes = 1 if nodes is None else nodes
    if nodes < 1:
        raise resource.wrong("spec.resource.node_count", "1 or more")
    if nodes > flavor["flavor_info"]["max_num"]:
        raise Refused("2793", nodes, flavor["flavor_info"]["max_num"])
    return flavor, nodes


def engine_of(algorithm: Fields) -> dict[str, str]:
    """The engine as answers name it: by all its names, or by the image."""
    engine = algorithm.inner("engine")
    if image := engine.text("image_url"):
        return {"image_url": image}
    asked = {name: engine.text(name) for name in ("engine_id", "engine_name", "engine_version")}
    found = image_of(asked)
    if found is None:
        raise Refused("2780", asked["engine_id"] or f"{asked['engine_name']} {asked['engine_version']}".strip())
    return {name: found[name] for name in asked}


async def _program(algorithm: Fields, obs: Obs, faults: Faults) -> dict[str, Any]:
    code, boot = algorithm.text("code_dir"), algorithm.text("boot_file")
    command = algorithm.text("command")
    if algorithm.text("id") or algorithm.text("subscription_id"):
        if code or boot:
            raise Refused(WRONG, "code_dir and boot_file must be blank with an algorithm's id")
        raise Refused("2755")
    local = algorithm.text("local_code_dir")
    if local and not local.startswith("/home/"):
        raise Refused(WRONG, "local_code_dir must be a directory in /home")
    if "image_url" in engine_of(algorithm):
        if not command:
            raise Refused("2806")
        if code:
            await check_place(obs, code)
        return {"code_url": code, "boot_file": "", "command": command}
    if command:
        raise Refused(WRONG, "command is for custom images")
    if not code or not boot:
        raise Refused("2758" if code else "2757")
    return {"code_url": code, "boot_file": await check_code(obs, faults, code, boot), "command": ""}


def _channels(algorithm: Fields, kind: str) -> list[dict[str, str]]:
    channels = []
    for channel in algorithm.items(kind):
        name, remote = channel.text("name", needed=True), channel.inner("remote")
        if kind == "inputs" and remote.value.get("dataset") is not None:
            raise Refused(WRONG, "this account has no dataset")
        url = remote.inner("obs").text("obs_url", needed=True)
        directory = channel.text("local_dir") or f"{_HOME}/{kind}/{name}_0"
        if not directory.startswith("/"):
            raise Refused(WRONG, f"{kind}.local_dir must be an absolute path")
        channels.append({"name": name, "url": url, "dir": directory})
    return channels


def _environments(algorithm: Fields) -> dict[str, str]:
    given = algorithm.value.get("environments") or {}
    # The table has an array of maps, its samples have a map.
    maps = given if isinstance(given, list) else [given]
    if not all(isinstance(each, dict) for each in maps):
        raise algorithm.wrong("algorithm.environments", "a map of strings")
    found = {name: value for each in maps for name, value in each.items()}
    if not all(isinstance(value, str) for value in found.values()):
        raise algorithm.wrong("algorithm.environments", "a map of strings")
    return found
