# SPDX-License-Identifier: Apache-2.0
"""Build the FastAPI application: the components of the server, its routes, and what starts and stops with it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field

from airflow_provider_jobapi import __version__
from airflow_provider_jobapi.server.config import Settings
from airflow_provider_jobapi.server.http import openapi, problems
from airflow_provider_jobapi.server.http.bodies import BodyMemory
from airflow_provider_jobapi.server.http.follow import Follow
from airflow_provider_jobapi.server.http.limits import RequestLimits
from airflow_provider_jobapi.server.http.log_watcher import LogWatcher
from airflow_provider_jobapi.server.http.oauth import SigningKey, TokenEndpoint, TokenVerifier
from airflow_provider_jobapi.server.http.progress_reader import ProgressReader
from airflow_provider_jobapi.server.http.routes import follow, jobs, object_streams, results, storage, token
from airflow_provider_jobapi.server.http.routes.dependencies import Components, ServerComponents
from airflow_provider_jobapi.server.http.status_answers import StatusAnswers
from airflow_provider_jobapi.server.run.engines import make_engine
from airflow_provider_jobapi.server.run.housekeeping import Housekeeper
from airflow_provider_jobapi.server.run.runner import Runner
from airflow_provider_jobapi.server.store.clients import ClientRegistry
from airflow_provider_jobapi.server.store.database import Database
from airflow_provider_jobapi.server.store.jobs import JobRegistry
from airflow_provider_jobapi.server.store.storages import Storages


def build(settings: Settings, database: Database) -> ServerComponents:
    """Make the components of a server without starting any.

    :param settings: The settings; ``serve`` has made their root directory and holds its lock.
    :raises SettingsError: when the server cannot work with these settings.
    """
    clients = ClientRegistry(settings, database)
    clients.check()
    key = SigningKey(settings.root / "keys")
    storages = Storages(settings, database)
    engine = make_engine(settings)
    registry = JobRegistry(settings, database, storages, engine.capacity)
    watcher = LogWatcher(settings.root)
    progress = ProgressReader(registry)
    return ServerComponents(
        settings=settings,
        clients=clients,
        tokens=TokenEndpoint(clients, key, int(settings.token_lifetime.total_seconds())),
        verifier=TokenVerifier(key, clients),
        storages=storages,
        registry=registry,
        runner=Runner(settings, registry, storages, clients, engine),
        housekeeper=Housekeeper(settings, clients, storages, registry),
        log_watcher=watcher,
        follow=Follow(settings.root, registry, clients, watcher),
        progress=progress,
        status_answers=StatusAnswers(registry, progress),
        bodies=BodyMemory(),
    )


def create_app(components: ServerComponents | None = None) -> FastAPI:
    """Make the application.

    :param components: The components of the server. Without them the application can only print its OpenAPI document.
    """

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        if components is None:
            raise RuntimeError("The application has no server components and cannot be started.")
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
    for router in (
        token.router,
        storage.router,
        object_streams.router,
        jobs.router,
        follow.router,
        results.router,
        _health_router,
    ):
        app.include_router(router)
    app.add_middleware(RequestLimits)
    return app


_health_router = APIRouter(tags=["health"])


class Health(BaseModel):
    """The server works."""

    status: str = Field(description="always `ok`")
    version: str = Field(description="the server's version")


@_health_router.get(
    "/healthz", summary="Ask whether the server works", response_model=Health, response_description="It works"
)
def health(server: Components) -> Health:
    """Read the database and answer."""
    server.clients.all()
    return Health(status="ok", version=__version__)
