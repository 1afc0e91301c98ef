# SPDX-License-Identifier: Apache-2.0
"""Runs a DAG within the test's own process, by ``dag.test()``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Inline:
    """An Airflow without processes: a database, and the DAGs of some folders."""

    def __init__(self, *dags: Path) -> None:
        from airflow.utils.db import initdb

        try:
            from airflow.dag_processing.dagbag import DagBag
        except ImportError:  # before 3.2
            from airflow.models.dagbag import DagBag
        initdb()
        self.dags: dict[str, Any] = {}
        for folder in dags:
            bag = DagBag(folder)
            assert not bag.import_errors, bag.import_errors
            self.dags |= bag.dags

    def run(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> Run:
        """Run a DAG to its end.

        Without its deadline, which ``dag.test()`` of Airflow 3.3.2 takes for the id of a deadline in the database. The
        parameters of the run are those of this one only: Airflow writes them into the DAG, which a worker reads anew.
        """
        dag = self.dags[dag_id]
        deadline, dag.deadline = dag.deadline, None
        params = [(param, param.value) for each in (dag, *dag.tasks) for _, param in each.params.items()]
        try:
            return Run(dag.test(logical_date=None, run_conf=dict(conf or {})))
        finally:
            dag.deadline = deadline
            for param, value in params:
                param.value = value


class Run:
    """A run that has ended."""

    def __init__(self, dag_run: Any) -> None:
        self._dag_run = dag_run
        self.state = str(dag_run.state)
        self.run_id = str(dag_run.run_id)
        self.states = {
            ti.task_id if ti.map_index < 0 else (ti.task_id, ti.map_index): str(ti.state) for ti in self._tis()
        }

    def _tis(self) -> list[Any]:
        return list(self._dag_run.get_task_instances())

    def xcom(self, task_id: str, key: str = "return_value", map_index: int = -1) -> Any:
        """An XCom of a task."""
        (ti,) = (ti for ti in self._tis() if ti.task_id == task_id and ti.map_index == map_index)
        return ti.xcom_pull(task_ids=task_id, key=key, map_indexes=map_index)
