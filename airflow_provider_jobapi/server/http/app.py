# SPDX-License-Identifier: Apache-2.0
"""The application: the parts of the server put together, and what starts and ends with it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool

from airflow_provider_jobapi.server.config import Settings
from airflow_provider_jobapi.server.http import openapi, problems
from airflow_provider_jobapi.server.http.limits import Limits
from airflow_provider_jobapi.server.http.log_reader import Watch
from airflow_provider_jobapi.server.http.oauth import SigningKey, TokenEndpoint, Verifier
from airflow_provider_jobapi.server.http.routes import health, jobs, storage, token
from airflow_provider_jobapi.server.http.routes.common import Parts
from airflow_provider_jobapi.server.run.housekeeping import Housekeeper
from airflow_provider_jobapi.server.run.runner import Runner
from airflow_provider_jobapi.server.store.clients import ClientRegistry
from airflow_provider_jobapi.server.store.database import Database
from airflow_provider_jobapi.server.store.jobs import JobRegistry
from airflow_provider_jobapi.server.store.objects import Trees


def build(settings: Settings, database: Database) -> Parts:
    """Make the parts of a server, at rest.

    :param settings: Whose root is prepared and held by the caller (see ``serve``).
    :raises SettingsError: when the server could not work with these settings.
    """
    clients = ClientRegistry(settings, database)
    clients.check()
    key = SigningKey(settings.root / "keys")
    trees = Trees(settings, database)
    registry = JobRegistry(settings, database, trees)
    return Parts(
        settings=settings,
        clients=clients,
        tokens=TokenEndpoint(clients, key, int(settings.token_lifetime.total_seconds())),
        verifier=Verifier(key, clients),
        trees=trees,
        registry=registry,
        runner=Runner(settings, registry, trees, clients),
        housekeeper=Housekeeper(settings, clients, trees, registry),
        watch=Watch(),
    )


def create_app(parts: Parts | None = None) -> FastAPI:
    """The application around the parts of a server; without them, it can only be described."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        if parts is None:
            raise RuntimeError("There is no server behind this application.")
        parts.watch.open()
        parts.registry.listen(parts.watch.tell)
        await run_in_threadpool(parts.housekeeper.sweep)
        parts.runner.start()
        parts.housekeeper.start()
        try:
            yield
        finally:
            await run_in_threadpool(parts.housekeeper.stop)
            await run_in_threadpool(parts.runner.stop)

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.parts = parts
    problems.install(app)
    openapi.install(app)
    for module in (token, storage, jobs, health):
        app.include_router(module.router)
    app.add_middleware(Limits)
    return app
