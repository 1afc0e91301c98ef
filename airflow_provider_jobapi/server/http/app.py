# SPDX-License-Identifier: Apache-2.0
"""The application: the components of the server put together, and what starts and ends with it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool

from airflow_provider_jobapi.server.config import Settings
from airflow_provider_jobapi.server.http import openapi, problems
from airflow_provider_jobapi.server.http.limits import RequestLimits
from airflow_provider_jobapi.server.http.log_reader import LogWatcher
from airflow_provider_jobapi.server.http.oauth import SigningKey, TokenEndpoint, TokenVerifier
from airflow_provider_jobapi.server.http.routes import health, jobs, storage, token
from airflow_provider_jobapi.server.http.routes.common import ServerComponents
from airflow_provider_jobapi.server.run.engines import make_engine
from airflow_provider_jobapi.server.run.housekeeping import Housekeeper
from airflow_provider_jobapi.server.run.runner import Runner
from airflow_provider_jobapi.server.store.clients import ClientRegistry
from airflow_provider_jobapi.server.store.database import Database
from airflow_provider_jobapi.server.store.jobs import JobRegistry
from airflow_provider_jobapi.server.store.objects import Storages


def build(settings: Settings, database: Database) -> ServerComponents:
    """Make the components of a server, at rest.

    :param settings: Whose root is prepared and held by the caller (see ``serve``).
    :raises SettingsError: when the server could not work with these settings.
    """
    clients = ClientRegistry(settings, database)
    clients.check()
    key = SigningKey(settings.root / "keys")
    storages = Storages(settings, database)
    registry = JobRegistry(settings, database, storages)
    return ServerComponents(
        settings=settings,
        clients=clients,
        tokens=TokenEndpoint(clients, key, int(settings.token_lifetime.total_seconds())),
        verifier=TokenVerifier(key, clients),
        storages=storages,
        registry=registry,
        runner=Runner(settings, registry, storages, clients, make_engine(settings)),
        housekeeper=Housekeeper(settings, clients, storages, registry),
        log_watcher=LogWatcher(),
    )


def create_app(components: ServerComponents | None = None) -> FastAPI:
    """The application around the components of a server; without them, it can only be described."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        if components is None:
            raise RuntimeError("There is no server behind this application.")
        components.log_watcher.open()
        components.registry.on_change(components.log_watcher.notify)
        await run_in_threadpool(components.housekeeper.sweep)
        components.runner.start()
        components.housekeeper.start()
        try:
            yield
        finally:
            await run_in_threadpool(components.housekeeper.stop)
            await run_in_threadpool(components.runner.stop)

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.components = components
    problems.install(app)
    openapi.install(app)
    for module in (token, storage, jobs, health):
        app.include_router(module.router)
    app.add_middleware(RequestLimits)
    return app
