# SPDX-License-Identifier: Apache-2.0
"""The process of the double: ``python -m tests.harness.modelarts.server HOME``; prints its port when it listens."""

from __future__ import annotations

import asyncio
import json
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.harness.modelarts import errors, iam
from tests.harness.modelarts.backend import Backend
from tests.harness.modelarts.errors import Refused
from tests.harness.modelarts.iam import Iam
from tests.harness.modelarts.v1 import V1
from tests.harness.modelarts.v2 import LINK, V2

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
CONTROL = "/__control__"
_AS_STRINGS = {
    *("job_id", "version_id", "status", "create_time", "lines", "duration", "start_time", "job_total_count"),
    *("engine_id", "engine_type", "spec_id", "max_num", "unit_num", "gpu_num"),
}


class Server:
    """The application.

    :param home: Its directory, with ``settings.json``.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.settings: dict[str, Any] = json.loads((home / "settings.json").read_text())
        self.backend = Backend(home, self.settings)
        self.faults = self.backend.faults
        self.under_way = 0
        self.iam = Iam(self.settings["account"] | {"url": self.settings["url"]}, self.backend.store, self.faults)

    def app(self) -> web.Application:
        """Return the application with its routes and middlewares."""
        app = web.Application(middlewares=[self.journal, self.inject_fault, self.answer_errors], client_max_size=2**24)
        app.router.add_post("/v3/auth/tokens", self.iam.issue)
        if "v1" in self.settings["dialects"]:
            for method, path, answer in V1(self.backend).routes():
                app.router.add_route(method, "/v1/{project_id}" + path, self._v1(answer))
        if "v2" in self.settings["dialects"]:
            obs = self.settings["obs"]
            v2 = V2(self.backend, self.settings["account"]["user"], (obs["key"], obs["secret"]))
            for method, path, status, v2_answer in v2.routes():
                app.router.add_route(method, "/v2/{project_id}" + path, self._v2(v2_answer, status))
            app.router.add_get(LINK, v2.follow_link)
        app.router.add_get(f"{CONTROL}/requests", self.requests)
        app.router.add_post(f"{CONTROL}/inject_fault", self.switch)
        return app

    @web.middleware
    async def journal(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Write down every request and how it was answered."""
        if request.path.startswith(CONTROL):
            return await handler(request)
        body = (await request.read()).decode(errors="replace") if request.content_type == "application/json" else ""
        entry = {"method": request.method, "path": request.path, "query": dict(request.query), "time": time.time()}
        entry["body"] = body.replace(self.settings["account"]["password"], "*" * 10)
        status: int | None = None
        self.under_way += 1
        try:
            answer = await handler(request)
            status = None if request.get("lost") else answer.status
            return answer
        finally:
            with (self.home / "journal.jsonl").open("a") as file:
                file.write(json.dumps(entry | {"status": status}) + "\n")
            self.under_way -= 1

    @web.middleware
    async def inject_fault(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """The faults of the wire."""
        if request.path.startswith(CONTROL):
            return await handler(request)
        line = f"{request.method} {request.path_qs}"
        if slow := self.faults.strikes("slow", line):
            await self._while(lambda: self.faults.get("slow") is not None, slow["seconds"])
        if often := self.faults.strikes("too_many_requests", line):
            return _refusal(Refused("2799"), errors.GATEWAY, {"Retry-After": str(often["retry_after"])})
        if down := self.faults.strikes("unavailable", line):
            headers = {"Retry-After": str(down["retry_after"])} if down["retry_after"] is not None else None
            return _refusal(Refused("4700"), errors.GATEWAY, headers)
        if self.faults.strikes("bad_gateway", line):
            return web.Response(status=502, text="<html><h1>502 Bad Gateway</h1></html>", content_type="text/html")
        if how := self.faults.strikes("refusal", line):
            return _any_refusal(how, request.path)
        lost = self.faults.strikes("lost_answer", line)
        answer = await handler(request)
        if lost and request.transport is not None:
            request["lost"] = True
            request.transport.abort()
        return answer

    @web.middleware
    async def answer_errors(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Return an error in the format of the dialect."""
        dialect = errors.V1 if request.path.startswith("/v1/") else errors.V2
        try:
            return await handler(request)
        except Refused as refused:
            return self._no(refused, dialect)
        except web.HTTPMethodNotAllowed as refused:
            return _refusal(Refused("2803"), dialect, {"Allow": refused.headers["Allow"]})
        except web.HTTPNotFound:
            known = {"error_code": "APIG.0101", "request_id": uuid.uuid4().hex}
            message = "The API does not exist or has not been published in the environment"
            return web.json_response(known | {"error_msg": message}, status=404)

    async def requests(self, _: web.Request) -> web.Response:
        """The journal."""
        file = self.home / "journal.jsonl"
        rows = [json.loads(row) for row in file.read_text().splitlines()] if file.exists() else []
        return web.json_response(rows)

    async def switch(self, request: web.Request) -> web.Response:
        """Switch a fault on, or off."""
        wish = await request.json()
        try:
            if wish["on"]:
                how = self.faults.switch_on(wish["fault"], wish["how"])
                if wish["fault"] == "deleted":
                    self._delete(how["job"])
            else:
                self.faults.switch_off(wish["fault"])
            if not wish["on"] and wish["fault"] is None:
                # What is under way still is of the test that has just ended.
                await self._while(lambda: self.under_way > 0, 5.0)
        except ValueError as error:
            return web.json_response({"error": str(error)}, status=422)
        return web.json_response({})

    @staticmethod
    async def _while(lasts: Callable[[], bool], seconds: float) -> None:
        until = time.monotonic() + seconds
        while lasts() and time.monotonic() < until:  # noqa: ASYNC110 -- one of them is a file
            await asyncio.sleep(0.01)

    def _delete(self, job: Any) -> None:
        for found in self.backend.store.jobs():
            if job is None or found.key == str(job):
                self.backend.delete(found.key)
        self.faults.switch_off("deleted")

    def _no(self, refused: Refused, dialect: str) -> web.Response:
        status = refused.kind.status
        if refused.code == "2775":
            status = self.faults.option("not_found", "status", status)
        answer = errors.body(refused, dialect)
        if dialect == errors.V1 and "error_message" in answer:
            if self.faults.get("soft_failures") is not None:
                status = 200
            answer[self.faults.option("error_key", "name", "error_message")] = answer.pop("error_message")
        return _json(answer, status)

    def _v1(self, answer: Callable[[web.Request], Awaitable[dict[str, Any]]]) -> Handler:
        async def handle(request: web.Request) -> web.Response:
            self.iam.check(request, request.match_info["project_id"])
            body = await answer(request)
            return _json(_stringly(body) if self.faults.get("string_numbers") is not None else body)

        return handle

    def _v2(self, answer: Callable[[web.Request], Awaitable[Any]], status: int) -> Handler:
        async def handle(request: web.Request) -> web.Response:
            self.iam.check(request, request.match_info["project_id"])
            return _json(await answer(request), status)

        return handle


def _stringly(body: Any) -> Any:
    """Numbers as the samples of the reference quote them; ``start_line`` is the one that they do not quote."""
    if isinstance(body, list):
        return [_stringly(item) for item in body]
    if not isinstance(body, dict):
        return body
    changed = {
        key: str(value) if key in _AS_STRINGS and isinstance(value, int) else _stringly(value)
        for key, value in body.items()
    }
    if str(changed.get("start_line", "")).isdecimal():
        changed["start_line"] = int(changed["start_line"])
    return changed


def _refusal(refused: Refused, dialect: str, headers: dict[str, str] | None = None) -> web.Response:
    return _json(errors.body(refused, dialect), refused.kind.status, headers)


def _any_refusal(how: dict[str, Any], path: str) -> web.Response:
    if path.startswith("/v3/"):
        return iam.no(how["status"], how["message"], "Refused")
    dialect = errors.V1 if path.startswith("/v1/") else errors.V2
    return _json(errors.said(how["code"], how["message"], dialect), how["status"])


def _json(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    if status == 204:
        return web.Response(status=204, headers=headers)
    return web.json_response(body, status=status, headers=headers)


async def serve(home: Path) -> None:
    """Serve until killed."""
    server = Server(home)
    runner = web.AppRunner(server.app(), access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", server.settings["port"]).start()
    server.backend.recover()
    print("up", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
