# SPDX-License-Identifier: Apache-2.0
"""Start and stop the controller, and decide what becomes of jobs."""

from __future__ import annotations

import threading
from collections.abc import Collection
from typing import Any, Self

import yaml

from tests.harness.ack import CRD
from tests.harness.ack.cloud import REGION, Cloud
from tests.harness.ack.controller import Controller
from tests.harness.ack.drivers import train
from tests.harness.ack.job import Job
from tests.harness.ack.rules import AwsError
from tests.harness.ack.sagemaker import Driver, SageMaker
from tests.harness.kubernetes.cluster import Kubernetes
from tests.harness.server import poll


class Ack:
    """The double; a context manager.

    :param kubernetes: Where it works; the definition of training jobs is applied.
    :param cloud: Where the jobs' files and logs are.
    :param namespaces: Those that the controller watches; None for all.
    :param driver: What becomes of jobs, see :mod:`tests.harness.ack.drivers`; assign ``ack.sagemaker.driver`` later.
    :param region: Where jobs run whose object names no region.
    :param speed: How many times as fast as the real controller it looks again.
    :param adopts: Whether the controller's feature gate ``ResourceAdoption`` is on; ``ack.adopts = …`` and a new start
        change it.
    :ivar sagemaker: SageMaker, which goes on while no controller runs.
    """

    def __init__(
        self,
        kubernetes: Kubernetes,
        cloud: Cloud,
        *,
        namespaces: Collection[str] | None = None,
        driver: Driver = train,
        region: str = REGION,
        speed: float = 100.0,
        adopts: bool = True,
    ) -> None:
        self.kubernetes, self.cloud, self.namespaces = kubernetes, cloud, namespaces
        self.sagemaker = SageMaker(cloud, driver)
        definition = yaml.safe_load(CRD.read_text())["spec"]
        self._root = f"/apis/{definition['group']}/{definition['versions'][0]['name']}"
        self._plural = definition["names"]["plural"]
        self._settings: dict[str, Any] = {"namespaces": namespaces, "region": region, "speed": speed}
        self.adopts = adopts
        self._refusals: dict[str, list[Any]] = {}
        self._lock = threading.Lock()
        self._controller: Controller | None = None

    def __enter__(self) -> Self:
        self.kubernetes.apply(CRD)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        failure = self.stop()
        self.sagemaker.close()
        self._let_all_go()
        assert failure is None, f"the double itself has failed: {failure!r}"

    def start(self) -> None:
        """Start the controller (again); it knows only what the objects and SageMaker say."""
        path = f"{self._root}/{self._plural}"
        self._controller = Controller(
            self.kubernetes.admin, path, self.sagemaker, self._before, adopts=self.adopts, **self._settings
        )
        self._controller.start()

    def stop(self) -> BaseException | None:
        """Stop the controller: nobody looks at the objects; jobs in SageMaker go on. Answers what it failed with."""
        controller, self._controller = self._controller, None
        if controller is None:
            return None
        controller.stop()
        return controller.failure

    def refuse(self, call: str, code: str, message: str, times: int | None = None) -> None:
        """Let calls of the controller to AWS fail, such as by AccessDeniedException for ever.

        :param call: ``create``, ``describe`` or ``stop``.
        :param times: How many; None until :meth:`allow`.
        """
        with self._lock:
            self._refusals[call] = [AwsError(code, message), times]

    def allow(self, call: str) -> None:
        """End what :meth:`refuse` began."""
        with self._lock:
            self._refusals.pop(call, None)

    def job(self, name: str = "", timeout: float = 30.0) -> Job:
        """Wait until SageMaker has a job, and answer it.

        :param name: What its name begins or ends with; the newest job of all without it.
        """

        def find() -> Job | None:
            jobs = list(self.sagemaker.jobs.values())
            return next((job for job in reversed(jobs) if job.name.startswith(name) or job.name.endswith(name)), None)

        return poll(find, timeout, f"SageMaker to have the job {name}")

    def path(self, namespace: str, name: str = "") -> str:
        """The path of an object in the Kubernetes API, or of a namespace's objects."""
        return f"{self._root}/namespaces/{namespace}/{self._plural}" + (f"/{name}" if name else "")

    def objects(self, namespace: str) -> list[dict[str, Any]]:
        """The objects of a namespace."""
        return list(self.kubernetes.admin.get(self.path(namespace))["items"])

    def object(self, namespace: str, name: str) -> dict[str, Any] | None:
        """An object; None where there is none."""
        return self.kubernetes.admin.find(self.path(namespace, name))

    def _before(self, call: str, name: str) -> None:
        with self._lock:
            error, times = self._refusals.get(call, (None, None))
            if error is None:
                return
            if times is not None:
                self._refusals[call][1] = times - 1
                if times <= 1:
                    del self._refusals[call]
        self.sagemaker.calls.append((f"{call} refused", name))
        raise error

    def _let_all_go(self) -> None:
        """Remove the objects, which nobody would let go from now on."""
        for namespace in self._settings["namespaces"] or ():
            for found in self.objects(namespace):
                path = self.path(namespace, found["metadata"]["name"])
                self.kubernetes.admin.delete(path)
                if self.kubernetes.admin.find(path):
                    self.kubernetes.admin.patch(path, {"metadata": {"finalizers": None}})
