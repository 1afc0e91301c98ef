# SPDX-License-Identifier: Apache-2.0
"""Version 1 of the API: answers with ``is_success``, states as numbers."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from tests.harness.modelarts import lines, v1_create, v1_details
from tests.harness.modelarts.backend import Backend
from tests.harness.modelarts.catalogue import ENGINES, SPECS, engine_of
from tests.harness.modelarts.checks import Fields, body_of, query_number
from tests.harness.modelarts.errors import Refused
from tests.harness.modelarts.runs import State
from tests.harness.modelarts.store import Job, Version

WRONG = v1_create.WRONG
STATUS = {
    "creating": 1,
    "image": 2,
    "trying": 4,
    "waiting": 7,
    "running": 8,
    "stopping": 9,
    "completed": 10,
    "failed": 11,
    "stopped": 12,
    "lost": 14,
}
_SORTS = {"job_name", "job_desc", "status", "duration", "version_count", "create_time"}
_SHOWN_OF_A_JOB = {"job_name", "job_desc", "is_success", "job_id"}


class V1:
    """The routes below ``/v1/{project_id}``."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def routes(self) -> list[tuple[str, str, Callable[[web.Request], Awaitable[dict[str, Any]]]]]:
        """Return method, path and handler of each route."""
        job, version = "/training-jobs/{job}", "/training-jobs/{job}/versions/{version}"
        return [
            ("GET", "/job/resource-specs", self.specs),
            ("GET", "/job/ai-engines", self.engines),
            ("POST", "/training-jobs", self.create),
            ("GET", "/training-jobs", self.jobs),
            ("PUT", job, self.describe),
            ("DELETE", job, self.delete),
            ("GET", f"{job}/versions", self.versions),
            ("POST", f"{job}/versions", self.create_version),
            ("GET", version, self.details),
            ("DELETE", version, self.delete_version),
            ("POST", f"{version}/stop", self.stop),
            ("GET", f"{version}/log/file-names", self.log_files),
            ("GET", f"{version}/aom-log", self.log),
        ]

    async def specs(self, request: web.Request) -> dict[str, Any]:
        _check_job_type(request)
        backend = self._backend
        specs = [
            spec | {"no_resource": spec["no_resource"] or backend.faults.sold_out(spec["spec_code"])} for spec in SPECS
        ]
        return {"specs": specs, "is_success": True, "spec_total_count": len(specs)}

    async def engines(self, request: web.Request) -> dict[str, Any]:
        _check_job_type(request)
        return {"engines": ENGINES, "is_success": True}

    async def create(self, request: web.Request) -> dict[str, Any]:
        body = await body_of(request, WRONG)
        name, description = body.name("job_name"), body.text("job_desc", limit=256)
        workspace = self._backend.check_workspace(body.text("workspace_id"))
        config = Fields(body.value.get("config"), WRONG, "config.")
        create_version = config.value.get("create_version", True)
        if not isinstance(create_version, bool):
            raise config.wrong("config.create_version", "a boolean")
        self._backend.check_agency()
        if any(job.name == name for job in self._backend.store.jobs("v1")):
            raise Refused("0103", name)
        self._backend.check_quota("v1", "0118")
        run = await v1_create.run_of(name, config, self._backend.obs, self._backend.faults)
        # Two requests may have come this far; only one may have the name.
        if any(job.name == name for job in self._backend.store.jobs("v1")):
            raise Refused("0103", name)
        job = Job(str(self._backend.store.next_id("job")), "v1", name, description, workspace, _now())
        answer = {"is_success": True, "job_id": int(job.key), "job_name": name, "status": 1, "create_time": job.created}
        if not create_version:
            self._backend.store.add(job, None)
            return answer
        version = self._version(job, 1, None, config)
        self._backend.begin(job, version, run, is_new=True)
        return answer | self._created(version)

    async def create_version(self, request: web.Request) -> dict[str, Any]:
        job = self._job(request)
        body = await body_of(request, WRONG)
        config = Fields(body.value.get("config"), WRONG, "config.")
        before = config.number("pre_version_id")
        known = self._backend.store.versions(job.key)
        if before is None or str(before) not in {version.key for version in known}:
            raise Refused(WRONG, "config.pre_version_id must be a version of this job")
        config.text("train_url", needed=True)
        self._backend.check_agency()
        run = await v1_create.run_of(job.name, config, self._backend.obs, self._backend.faults)
        version = self._version(job, max(version.number for version in known) + 1, str(before), config)
        self._backend.begin(job, version, run, is_new=False)
        answer = {"is_success": True, "job_id": int(job.key), "job_name": job.name, "status": 1}
        return answer | {"create_time": version.created} | self._created(version)

    async def jobs(self, request: web.Request) -> dict[str, Any]:
        if self._backend.faults.get("no_job_list") is not None:
            raise web.HTTPNotFound
        query = request.query
        per_page = query_number(request, "per_page", 10, 1, 1000, WRONG)
        page = query_number(request, "page", 1, 1, 65535, WRONG)
        sort, order = query.get("sortBy") or "job_name", query.get("order") or "asc"
        if sort not in _SORTS or order not in {"asc", "desc"}:
            raise Refused(WRONG, f"sortBy must be one of {', '.join(sorted(_SORTS))}, order asc or desc")
        search = query.get("search_content", "")
        if len(search) > 64:
            raise Refused(WRONG, "search_content must be at most 64 characters long")
        workspace = query.get("workspace_id") or "0"
        every = [job for job in self._backend.listed("v1") if job.workspace == workspace]
        shown = [self._summary(job) for job in every if search in job.name]
        if query.get("status"):
            shown = [job for job in shown if str(job["status"]) in query["status"].split(",")]
        shown.sort(key=lambda job: (job[sort], job["job_id"]), reverse=order == "desc")
        quota = self._backend.quota()
        return {
            "is_success": True,
            "quotas": quota,
            "job_total_count": len(shown),
            "job_count_limit": max(0, quota - len(every)),
            "jobs": shown[(page - 1) * per_page : page * per_page],
        }

    async def versions(self, request: web.Request) -> dict[str, Any]:
        job = self._job(request)
        per_page = query_number(request, "per_page", 10, 1, 1000, WRONG)
        page = query_number(request, "page", 0, 0, 65535, WRONG)
        found = self._backend.store.versions(job.key)
        shown = found[(page - 1) * per_page : page * per_page] if page else found
        rows = [self._details(job, version) for version in shown]
        for row in rows:
            row["system_metric_list"] = json.dumps(row["system_metric_list"])
        names = {"is_success": True, "job_id": int(job.key), "job_name": job.name, "job_desc": job.description}
        listed = [{key: value for key, value in row.items() if key not in _SHOWN_OF_A_JOB} for row in rows]
        return names | {"version_count": len(found), "versions": listed}

    async def details(self, request: web.Request) -> dict[str, Any]:
        job, version = self._version_of(request)
        return self._details(job, version)

    async def describe(self, request: web.Request) -> dict[str, Any]:
        job = self._job(request)
        body = await body_of(request, WRONG)
        self._backend.store.describe(job.key, body.text("job_desc", limit=256))
        return {"is_success": True}

    async def delete(self, request: web.Request) -> dict[str, Any]:
        self._backend.delete(self._job(request).key)
        return {"is_success": True}

    async def delete_version(self, request: web.Request) -> dict[str, Any]:
        _, version = self._version_of(request)
        self._backend.delete_version(version.key)
        return {"is_success": True}

    async def stop(self, request: web.Request) -> dict[str, Any]:
        _, version = self._version_of(request)
        if self._backend.runs.state(version.key).is_last:
            raise Refused("2796")
        self._backend.runs.stop(version.key)
        return {"is_success": True}

    async def log_files(self, request: web.Request) -> dict[str, Any]:
        _, version = self._version_of(request)
        names = [name for name, _ in self._logs(version)]
        if not names:
            raise Refused("2818")
        as_string = self._backend.faults.get("log_file_list")
        return {"is_success": True, "log_file_list": ",".join(names) if as_string else names}

    async def log(self, request: web.Request) -> dict[str, Any]:
        _, version = self._version_of(request)
        name, order = request.query.get("log_file", ""), request.query.get("order") or "desc"
        base = request.query.get("base_line", "").strip()
        if order not in {"asc", "desc"} or (base and not base.isdecimal()):
            raise Refused(WRONG, "order must be asc or desc, base_line a position from an earlier answer")
        count = query_number(request, "lines", 50, 0, 500, WRONG)
        every = dict(self._logs(version)).get(name)
        if every is None:
            known = self._backend.runs.spec(version.key)["log_files"]
            raise Refused("2818") if name in known else Refused(WRONG, f"there is no log_file {name!r}")
        page = self._backend.page(every, base, order, count, down="desc")
        separator = self._backend.faults.option("separator", "text", "\n\n")
        return {
            "start_line": page.start,
            "lines": len(page.lines),
            "is_success": True,
            "end_line": page.end,
            "content": separator.join(text for _, text in page.lines) + ("\n" if page.lines else ""),
        }

    def _logs(self, version: Version) -> list[tuple[str, list[lines.Line]]]:
        """Names and lines of the logs that have any."""
        names = self._backend.runs.spec(version.key)["log_files"]
        logs = [(name, self._backend.log(version.key, index)) for index, name in enumerate(names)]
        return [(name, log) for name, log in logs if log]

    def _job(self, request: web.Request) -> Job:
        key = request.match_info["job"]
        found = self._backend.store.job(key, "v1")
        if found is None:
            raise Refused("2775", key)
        return found

    def _version_of(self, request: web.Request) -> tuple[Job, Version]:
        job = self._job(request)
        found = self._backend.store.version(job.key, request.match_info["version"])
        if found is None:
            raise Refused("2775", request.match_info["version"])
        return job, found

    def _version(self, job: Job, number: int, before: str | None, config: Fields) -> Version:
        created = job.created if number == 1 else _now()
        return Version(str(self._backend.store.next_id("version")), job.key, number, before, created, config.value)

    def _created(self, version: Version) -> dict[str, Any]:
        return {
            "version_id": int(version.key),
            "version_name": f"V{version.number:04}",
            "resource_id": _resource_id(version),
        }

    def _summary(self, job: Job) -> dict[str, Any]:
        versions = self._backend.store.versions(job.key)
        state = self._backend.runs.state(versions[-1].key) if versions else State("creating")
        return {
            "job_id": int(job.key),
            "job_name": job.name,
            "version_id": int(versions[-1].key) if versions else 0,
            "status": self._status(job, state),
            "create_time": job.created,
            "duration": _whole_seconds(state.duration()),
            "job_desc": job.description,
            "version_count": len(versions),
        }

    def _is_sold_out(self, spec: dict[str, Any]) -> bool:
        return spec["no_resource"] or self._backend.faults.sold_out(spec["spec_code"])

    def _status(self, job: Job, state: State) -> int:
        return int(self._backend.shown_status(job.key, STATUS[state.name]))

    def _details(self, job: Job, version: Version) -> dict[str, Any]:
        state = self._backend.runs.state(version.key)
        said = v1_details.asked(version.request)
        return (
            said
            | {
                "is_success": True,
                "job_id": int(job.key),
                "job_name": job.name,
                "job_desc": job.description,
                "status": self._status(job, state),
                "create_time": version.created,
                "start_time": _whole_seconds(state.started or 0),
                "duration": _whole_seconds(state.duration()),
                "pre_version_id": None if version.before is None else int(version.before),
                "no_resource": self._is_sold_out(said),
            }
            | self._created(version)
        )


def _check_job_type(request: web.Request) -> None:
    if request.query.get("job_type") != "train":
        raise Refused(WRONG, "job_type must be train")
    engine_id = request.query.get("engine_id")
    if engine_id and (not engine_id.isdecimal() or engine_of(int(engine_id)) is None):
        raise Refused("2780", engine_id)


def _resource_id(version: Version) -> str:
    """The resource that is charged; the first version's is that of the documents' procedure."""
    return f"job{(int(version.key) - 1108482 + 0xAEDEF089) % 2**32:08x}"


def _now() -> int:
    return _whole_seconds(time.time_ns() // 10**6)


def _whole_seconds(milliseconds: int) -> int:
    """Times of v1 are milliseconds that end with three zeros, in the documents' procedure and in real answers."""
    return milliseconds - milliseconds % 1000
