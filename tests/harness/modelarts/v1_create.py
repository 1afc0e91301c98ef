# SPDX-License-Identifier: Apache-2.0
"""v1: check ``config`` of a creation (Creating a Training Job, table 3) and make the run."""

from __future__ import annotations

from typing import Any

from tests.harness.modelarts.catalogue import POOL_FLAVOR, POOL_ID, engine_of, spec_of
from tests.harness.modelarts.checks import Fields, check_code, check_place
from tests.harness.modelarts.errors import Refused
from tests.harness.modelarts.faults import Faults
from tests.harness.modelarts.obs import Obs

WRONG = "0104"


def resources(config: Fields) -> dict[str, Any]:
    """The specification: exactly one of spec_id, pool_id and, in the documents' procedure alone, flavor.code."""
    spec_id, pool_id = config.number("spec_id"), config.text("pool_id")
    code = config.inner("flavor").text("code")
    if sum((spec_id is not None, bool(pool_id), bool(code))) != 1:
        raise Refused(WRONG, "exactly one of spec_id, pool_id and flavor.code must be given")
    if pool_id:
        if pool_id != POOL_ID:
            raise Refused("2890", pool_id)
        code = POOL_FLAVOR
    found = spec_of("spec_code", code) if code else spec_of("spec_id", spec_id)
    if found is None:
        raise Refused("2781", code or spec_id)
    return found


def check_flavor_field(config: Fields, faults: Faults) -> None:
    """Whether this service takes the field that names the flavour: the documents name two, and each has one alone."""
    how = faults.get("flavor_field")
    given = next((name for name in ("spec_id", "flavor") if config.value.get(name) is not None), None)
    if how is not None and given is not None and given != how["takes"]:
        raise Refused(how["code"], f"{how['takes']} is mandatory")


def data_url(config: Fields) -> str:
    """The folder of the data: exactly one of data_url, data_source and dataset."""
    plain, sources = config.text("data_url"), config.items("data_source")
    dataset = (config.text("dataset_id"), config.text("dataset_version_id"))
    if bool(dataset[0]) != bool(dataset[1]):
        raise Refused(WRONG, "dataset_id and dataset_version_id must be given together")
    if sum((bool(plain), bool(sources), bool(dataset[0]))) != 1:
        raise Refused(WRONG, "exactly one of data_url, data_source and dataset_id must be given")
    if plain:
        return plain
    if dataset[0] or len(sources) != 1:
        raise Refused(WRONG, "this account has no dataset")
    kind = sources[0].text("type", needed=True)
    if kind != "obs":
        raise Refused(WRONG, "data_source.type must be obs, this account has no dataset")
    return sources[0].text("data_url", needed=True)


async def run_of(name: str, config: Fields, obs: Obs, faults: Faults) -> dict[str, Any]:
    """Check a version's config and return its run.

    :raises Refused: It is not as the documents say.
    """
    workers = config.number("worker_server_num")
    if workers is None or workers < 1:
        raise config.wrong("config.worker_server_num", "an integer of 1 and more")
    check_flavor_field(config, faults)
    spec = resources(config)
    if workers > spec["max_num"]:
        raise Refused(WRONG, f"worker_server_num must not be greater than max_num {spec['max_num']}")
    parameters = config.pairs("parameter", "label")
    data, train, log = data_url(config), config.text("train_url"), config.text("log_url")
    for url in filter(None, (data, train, log)):
        await check_place(obs, url)
    config.items("volumes")
    image = config.text("user_image_url")
    run = {
        "dialect": "v1",
        "job_name": name,
        "nodes": workers,
        "flavor": spec["spec_code"],
        "sold_out": spec["no_resource"],
        "code_url": "",
        "boot_file": "",
        "command": "",
        "parameters": [] if image else parameters,
        "env": dict(parameters) if image else {},
        "remote": [{"name": "data_url", "url": _for_a_boot_file(data)}],
        "inputs": [],
        "outputs": [],
        "log_url": log,
        "log_files": [log_file(name, index) for index in range(workers)],
    }
    if train:
        run["remote"].append({"name": "train_url", "url": _for_a_boot_file(train)})
    return run | await _program(config, image, obs, faults)


def log_file(name: str, node: int) -> str:
    """The name of a node's log, as the documents' procedure forms it."""
    return f"job-{name.lower().replace('_', '-')}.{node}"


async def _program(config: Fields, image: str, obs: Obs, faults: Faults) -> dict[str, Any]:
    app, boot = config.text("app_url"), config.text("boot_file_url")
    engine_id, model_id = config.number("engine_id"), config.number("model_id")
    command = config.text("user_command")
    if bool(app) != bool(boot):
        raise Refused(WRONG, "app_url and boot_file_url must be given together")
    if model_id is not None:
        if app or engine_id is not None:
            raise Refused(WRONG, "app_url, boot_file_url and engine_id must not be given with model_id")
        raise Refused("2755")
    if image:
        if not command:
            raise Refused("2806")
        code = await check_code(obs, faults, app, boot) if app else ""
        return {"code_url": app, "boot_file": code, "command": command}
    if not app:
        raise Refused(WRONG, "app_url and boot_file_url must be given")
    if engine_of(1 if engine_id is None else engine_id) is None:
        raise Refused("2780", engine_id)
    return {"code_url": app, "boot_file": await check_code(obs, faults, app, boot)}


def _for_a_boot_file(url: str) -> str:
    return f"s3://{url.removeprefix('obs://').lstrip('/')}"
