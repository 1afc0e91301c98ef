# SPDX-License-Identifier: Apache-2.0
"""The dialect v2 of the double: kinds, phases, exit codes of tasks, previews and links of logs."""

from __future__ import annotations

import hashlib
import hmac
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from tests.harness.modelarts import lines, v2_create
from tests.harness.modelarts.backend import Backend
from tests.harness.modelarts.catalogue import FLAVORS, IMAGES, flavor_of
from tests.harness.modelarts.checks import Fields, body_of, query_number
from tests.harness.modelarts.errors import Refused
from tests.harness.modelarts.runs import State
from tests.harness.modelarts.store import Job, Version

WRONG = v2_create.WRONG
PHASES = {
    "creating": ("Creating", "Creating"),
    "image": ("Creating", "Creating"),
    "trying": ("Creating", "Creating"),
    "waiting": ("Pending", "Queuing"),
    "running": ("Running", "Running"),
    "stopping": ("Terminating", "Terminating"),
    "completed": ("Completed", "Completed"),
    "failed": ("Failed", "Failed"),
    "stopped": ("Terminated", "Terminated"),
    "lost": ("Abnormal", "Lost"),
}
LINK = "/obs-link/{job}/{node}"
_LINK_LIFE = 300
_PREVIEW = 5 * 1024**2
_KEYS = {"name", "create_time", "phase", "algorithm_name", "kind", "user_id", "runtime_type"}
_OPERATORS = {"between", "like", "in", "not"}

Answer = Callable[[web.Request], Awaitable[Any]]


class V2:
    """The routes below ``/v2/{project_id}``."""

    def __init__(self, backend: Backend, user: str, key: tuple[str, str]) -> None:
        self._backend, self._user, self._key = backend, user, key

    def routes(self) -> list[tuple[str, str, int, Answer]]:
        """Return method, path, status and handler of each route."""
        job = "/training-jobs/{job}"
        return [
            ("GET", "/training-job-flavors", 200, self.flavors),
            ("GET", "/training-job-engines", 200, self.engines),
            ("POST", "/training-jobs", 201, self.create),
            ("POST", "/training-job-searches", 200, self.search),
            ("GET", job, 200, self.details),
            ("PUT", job, 200, self.describe),
            ("DELETE", job, 202, self.delete),
            ("POST", f"{job}/actions", 202, self.act),
            ("GET", f"{job}/tasks/{{task}}/logs/preview", 200, self.preview),
            ("GET", f"{job}/tasks/{{task}}/logs/url", 200, self.link),
            ("GET", f"{job}/logs/{{task}}", 200, self.log),
        ]

    async def flavors(self, request: web.Request) -> Any:
        kind = request.query.get("flavor_type", "")
        if kind not in {"", "CPU", "GPU"}:
            raise Refused("2764", "flavor_type")
        found = [flavor for flavor in FLAVORS if kind in {"", flavor["flavor_type"]}]
        return {"total_count": len(found), "flavors": found}

    async def engines(self, _: web.Request) -> Any:
        return {"total": len(IMAGES), "items": IMAGES}

    async def create(self, request: web.Request) -> Any:
        body = await body_of(request, "2787")
        body = Fields(body.value, WRONG)
        if body.value.get("kind") != "job":
            raise body.wrong("kind", "job")
        metadata = Fields(body.value.get("metadata"), WRONG, "metadata.")
        name, description = metadata.name("name"), metadata.text("description", limit=256)
        workspace = self._backend.check_workspace(metadata.text("workspace_id"))
        self._backend.check_agency()
        self._check_name(name)
        self._backend.check_quota("v2", "2815")
        run = await v2_create.run_of(body, self._backend.obs, self._backend.faults)
        # Two requests may have come this far; only one may have the name.
        self._check_name(name)
        created = time.time_ns() // 10**6
        job = Job(str(uuid.uuid4()), "v2", name, description, workspace, created)
        version = Version(job.key, job.key, 1, None, created, body.value)
        self._backend.begin(job, version, run, is_new=True)
        return self._shown(job, version, State("creating"))

    async def search(self, request: web.Request) -> Any:
        if self._backend.faults.get("no_job_list") is not None:
            raise web.HTTPNotFound
        body = await body_of(request, "2787")
        body = Fields(body.value, WRONG)
        limit, offset = body.number("limit"), body.number("offset") or 0
        limit = 50 if limit is None else limit
        sort_by, order = body.text("sort_by") or "create_time", body.text("order") or "desc"
        if not 1 <= limit <= 50 or offset < 0 or order not in {"asc", "desc"}:
            raise Refused(WRONG, "limit must be 1 to 50, offset 0 or more, order asc or desc")
        filters = body.items("filters")
        conditions = [(condition.text("key"), _condition(condition)) for condition in filters]
        every = self._backend.listed("v2")
        # What jobs look like is much to read, and a run of tests has many; all searches are for a name.
        names = [matches for key, matches in conditions if key == "name"]
        named = [job for job in every if all(matches({"metadata": {"name": job.name}}) for matches in names)]
        found = [shown for shown in map(self._of, named) if all(matches(shown) for _, matches in conditions)]
        found.sort(key=lambda shown: str(shown["metadata"].get(sort_by, "")), reverse=order == "desc")
        return {
            "total": len(every),
            "count": len(found),
            "limit": limit,
            "offset": offset,
            "sort_by": sort_by,
            "order": order,
            "group_by": body.text("group_by"),
            "workspace_id": "0",
            "ai_project": "default-ai-project",
            "items": found[offset * limit : (offset + 1) * limit],
        }

    async def details(self, request: web.Request) -> Any:
        return self._of(self._job(request))

    async def describe(self, request: web.Request) -> Any:
        job = self._job(request)
        body = await body_of(request, "2787")
        self._backend.store.describe(job.key, Fields(body.value, WRONG).text("description", limit=256))
        return self._of(self._job(request))

    async def delete(self, request: web.Request) -> Any:
        self._backend.delete(self._job(request).key)
        return ""

    async def act(self, request: web.Request) -> Any:
        job = self._job(request)
        body = await body_of(request, "2787")
        action = Fields(body.value, WRONG).text("action_type")
        if action != "terminate":
            raise Refused("2812", action)
        if self._backend.runs.state(job.key).name not in {"creating", "image", "trying", "waiting", "running"}:
            raise Refused("2796")
        self._backend.runs.stop(job.key)
        return self._of(job)

    async def preview(self, request: web.Request) -> Any:
        content = _text(self._log(request, "2776")).encode()
        limit = self._backend.faults.option("preview_limit", "bytes", _PREVIEW)
        shown = content[max(0, len(content) - limit) :].decode(errors="ignore")
        return {"content": shown, "current_size": len(shown.encode()), "full_size": len(content)}

    async def link(self, request: web.Request) -> Any:
        self._log(request, "2776")
        kind = request.query.get("Content-Type") or request.headers.get("Content-Type") or "text/plain"
        if kind not in {"text/plain", "application/octet-stream"}:
            raise Refused("2764", "Content-Type")
        node = request.match_info["task"].removeprefix("worker-")
        path = LINK.format(job=request.match_info["job"], node=node)
        expires = int(time.time()) + _LINK_LIFE
        signature = self._sign(path, str(expires))
        url = f"{self._backend.url}{path}?AWSAccessKeyId={self._key[0]}&Expires={expires}&Signature={signature}"
        return {"obs_url": url}

    async def follow_link(self, request: web.Request) -> web.Response:
        """The log behind a link, which needs no token."""
        expires = request.query.get("Expires", "")
        signature = request.query.get("Signature", "")
        if not hmac.compare_digest(signature, self._sign(request.path, expires)) or time.time() > int(expires):
            return web.Response(status=403, text="<Error><Code>AccessDenied</Code></Error>")
        log = self._backend.log(request.match_info["job"], int(request.match_info["node"]))
        return web.Response(text=f"{_text(log)}\n")

    async def log(self, request: web.Request) -> Any:
        if self._backend.faults.get("no_log_pages") is not None:
            raise web.HTTPNotFound
        order, base = request.query.get("order") or "desc", request.query.get("base_line", "")
        if order not in {"asc", "desc"}:
            raise Refused("2764", "order")
        if base and not base.isdecimal():
            raise Refused("2764", "base_line")
        count = query_number(request, "lines", 50, 1, 500, "2764")
        page = self._backend.page(self._log(request, "2818"), base, order, count, down="asc")
        if order == "desc" and self._backend.faults.get("directions") is None:
            page = lines.Page(page.lines[::-1], page.end, page.start)
        separator = self._backend.faults.option("separator", "text", "\n")
        content = separator.join(text for _, text in page.lines) + ("\n" if page.lines else "")
        return {"start_line": page.start, "end_line": page.end, "lines": len(page.lines), "content": content}

    def _log(self, request: web.Request, not_yet: str) -> list[lines.Line]:
        """The log of the task that a path names.

        :param not_yet: What is said as long as there is no line.
        """
        job, task = self._job(request), request.match_info["task"]
        tasks = self._backend.runs.spec(job.key)["log_files"]
        if task not in tasks:
            raise Refused(WRONG, f"task_id {task}")
        found = self._backend.log(job.key, tasks.index(task))
        if not found:
            raise Refused(not_yet)
        return found

    def _job(self, request: web.Request) -> Job:
        key = request.match_info["job"]
        found = self._backend.store.job(key, "v2")
        if found is None:
            raise Refused("2775", key)
        return found

    def _check_name(self, name: str) -> None:
        if any(job.name == name for job in self._backend.store.jobs("v2")):
            raise Refused("2751", name)

    def _of(self, job: Job) -> dict[str, Any]:
        version = self._backend.store.version(job.key, job.key)
        assert version is not None
        return self._shown(job, version, self._backend.runs.state(job.key))

    def _shown(self, job: Job, version: Version, state: State) -> dict[str, Any]:
        return {
            "kind": "job",
            "metadata": {
                "id": job.key,
                "name": job.name,
                "description": job.description,
                "create_time": job.created,
                "workspace_id": job.workspace,
                "user_name": self._user,
            },
            "status": self._status(job, state),
            "algorithm": self._algorithm(job, version),
            "spec": self._spec(version),
        }

    def _status(self, job: Job, state: State) -> dict[str, Any]:
        tasks = self._backend.runs.spec(job.key)["log_files"]
        phase, secondary = PHASES[state.name]
        shown = self._backend.shown_status(job.key, phase)
        status = {
            "phase": shown,
            "secondary_phase": secondary if shown == phase else shown,
            "duration": state.duration(),
            "start_time": state.started or 0,
            "node_count_metrics": [[state.started, len(tasks)]] if state.started else None,
            "tasks": tasks,
        }
        if state.exit_codes:
            status["task_statuses"] = [
                {"task": task, "exit_code": code, "message": state.message if code else ""}
                for task, code in zip(tasks, state.exit_codes, strict=True)
            ]
        return status

    def _algorithm(self, job: Job, version: Version) -> dict[str, Any]:
        asked = Fields(version.request, WRONG).inner("algorithm")
        run = self._backend.runs.spec(job.key)
        shown = {name: asked.value[name] for name in ("code_dir", "boot_file", "command") if asked.value.get(name)}
        shown["parameters"] = asked.value.get("parameters") or []
        for kind in ("inputs", "outputs"):
            shown[kind] = [
                {"name": each["name"], "local_dir": each["dir"], "remote": {"obs": {"obs_url": each["url"]}}}
                for each in run[kind]
            ]
        return shown | {"engine": v2_create.engine_of(asked), "policies": {}, "environments": run["env"]}

    def _spec(self, version: Version) -> dict[str, Any]:
        asked = Fields(version.request, WRONG).inner("spec")
        resource = asked.inner("resource")
        flavor = flavor_of(resource.text("flavor_id")) or {}
        detail = {name: flavor[name] for name in ("flavor_type", "billing", "flavor_info")}
        shown = {"policy": "regular", "flavor_id": flavor["flavor_id"], "flavor_name": flavor["flavor_name"]}
        shown |= {"node_count": resource.number("node_count") or 1, "flavor_detail": detail}
        if resource.text("pool_id"):
            shown["pool_id"] = resource.text("pool_id")
        return {"resource": shown, "log_export_path": asked.value.get("log_export_path") or {}}

    def _sign(self, path: str, expires: str) -> str:
        return hmac.new(self._key[1].encode(), f"{path}\n{expires}".encode(), hashlib.sha256).hexdigest()


def _text(log: list[lines.Line]) -> str:
    return "\n".join(text for _, text in log)


def _condition(condition: Fields) -> Callable[[dict[str, Any]], bool]:
    """What a filter of a search lets through; empty values let everything through, as in the documents' sample."""
    key, operator = condition.text("key", needed=True), condition.text("operator", needed=True)
    values = condition.value.get("value")
    if operator not in _OPERATORS:
        raise Refused("2808", operator)
    if key not in _KEYS or not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise Refused(WRONG, f"filters: {key}")
    wanted = [value for value in values if value]

    def of(shown: dict[str, Any]) -> str:
        place = shown["status"] if key == "phase" else shown if key == "kind" else shown["metadata"]
        return str(place.get(key, ""))

    def matches(shown: dict[str, Any]) -> bool:
        if not wanted:
            return True
        if operator == "like":
            return any(value in of(shown) for value in wanted)
        if operator == "between":
            return int(wanted[0]) <= int(of(shown)) <= int(wanted[-1])
        return (of(shown) in wanted) == (operator == "in")

    return matches
