# SPDX-License-Identifier: Apache-2.0
"""Find the secrets that reach a job, and keep them, sealed, for whatever shows its lines.

Airflow hides what a task has rendered from Variables and connections, but only in the log of that worker. A job gets
such values in its environment, arguments and files, and may print them. So the worker looks for what it hides in the
job, and gives it to the trigger. A retry that goes on with the job adds the values that the job was submitted with,
since a Variable may have changed: they are kept in the task's state store, which Airflow 3.3 and later have.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_jobapi._airflow import is_secret_name, masked_secrets
from airflow_provider_jobapi.exceptions import TrainingError
from airflow_provider_jobapi.training.masking import Masker, occurring
from airflow_provider_jobapi.triggers import xcoms

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_jobapi.operators.parameters import Parameters

log = logging.getLogger(__name__)

SEAL_KEY = "training_seal"
"""The XCom and the key of the task's state store of the sealed secrets."""

_MOST_DATA = 4 * 1024 * 1024
"""Bytes of a data file up to which it is searched for secrets."""

_MOST_TEXT = 64 * 1024 * 1024
"""Characters of a job that are searched for secrets, which takes some seconds; data files come last."""

_URL_CREDENTIALS = re.compile(r"://(?:[^\s:@/]*:)?([^\s/]+)@")
_URL_QUERY = re.compile(r"[?&]([^\s=&#]+)=([^\s&#]+)")
_NESTED = ("env", "env_vars", "arguments")
_OPTION = re.compile(r"--?([\w.-]+)(?:=(.*))?", re.DOTALL)


class JobSecrets:
    """The secrets of one job, known to the worker that submits it or goes on with it.

    :param conn_id: The connection, whose secret makes a key of the seal.
    :ivar sealed: The secrets, sealed; None where there are none.
    :ivar masker: Hides them.
    """

    def __init__(self, context: Context, conn_id: str) -> None:
        self._ti = context["ti"]
        self._store = context.get("task_state_store")
        self._conn_id = conn_id
        self.sealed: str | None = None
        self.masker = Masker()

    def collect(self, job_id: str, parameters: Parameters, offered: Iterable[str] = ()) -> None:
        """Collect what this worker hides and the job gets, and what earlier tries kept of the same job.

        :param offered: What the job gets of its service.
        """
        found = occurring(masked_secrets(), chain(offered, _first(_texts(parameters))))
        kept = self._kept(job_id)
        earlier = () if kept is None else self._open(kept)
        self.masker = Masker({*found, *(earlier or ())}, withhold=earlier is None)
        if earlier is None:  # what only the older keys open is not replaced by less
            self.sealed = kept
        elif self.masker.secrets:
            self.sealed = self._seal(self.masker.secrets)
        self._tell_airflow()

    def keep(self, job_id: str, parameters: Parameters, offered: Iterable[str] = ()) -> None:
        """Keep the secrets for the tries that go on with the job; called before it is submitted.

        :param offered: As for :meth:`collect`.
        """
        self.collect(job_id, parameters, offered)
        if self.sealed is None or self._store is None:
            return
        try:
            self._store.set(SEAL_KEY, {"job_id": job_id, "sealed": self.sealed})
        except Exception as error:  # noqa: BLE001 -- the next try has the values of its own
            log.warning("The secrets of job %s cannot be kept for the next try: %r", job_id, error)

    def publish(self, job_id: str) -> None:
        """Write the secrets, sealed, for the worker that resumes this try."""
        if self.sealed is not None:
            xcoms.push(self._ti, SEAL_KEY, {"job_id": job_id, "sealed": self.sealed})

    def read(self, job_id: str) -> Masker:
        """Read what :meth:`publish` wrote; Airflow hides it in the log of this worker, too."""
        return self._unseal(_sealed_for(job_id, xcoms.pull(self._ti, SEAL_KEY)))

    def read_above(self, job_id: str, task_ids: Collection[str]) -> Masker:
        """Read what the task that submitted the job wrote, where it is one of those above this one."""
        kept = self._ti.xcom_pull(task_ids=sorted(task_ids), key=SEAL_KEY) if task_ids else ()
        return self._unseal(next((sealed for each in kept or () if (sealed := _sealed_for(job_id, each))), None))

    def _unseal(self, sealed: str | None) -> Masker:
        self.sealed = sealed
        secrets = () if sealed is None else self._open(sealed)
        self.masker = Masker(secrets or (), withhold=secrets is None)
        self._tell_airflow()
        return self.masker

    def _kept(self, job_id: str) -> str | None:
        try:
            return None if self._store is None else _sealed_for(job_id, self._store.get(SEAL_KEY))
        except Exception as error:  # noqa: BLE001 -- the values of this try are hidden in any case
            log.warning("The secrets that earlier tries kept of job %s cannot be read: %r", job_id, error)
            return None

    def _open(self, sealed: str) -> tuple[str, ...] | None:
        from airflow_provider_jobapi.hooks.seal import open_seal

        return open_seal(sealed, self._conn_id)

    def _seal(self, secrets: tuple[str, ...]) -> str:
        from airflow_provider_jobapi.hooks.seal import seal_secrets

        return seal_secrets(secrets, self._conn_id)

    def _tell_airflow(self) -> None:
        from airflow.sdk.log import mask_secret

        for secret in self.masker.secrets:
            mask_secret(secret)


def hide_literals(env: Any, requirements: Any, arguments: Any = None, config: Any = None, env_vars: Any = None) -> None:
    """Let Airflow hide the secrets that a DAG writes out: under names such as ``API_TOKEN``, and in addresses.

    The parameters are the operator's, rendered.

    :param env: A mapping, a list of names and values, or JSON text.
    :param requirements: A text or a list.
    :param arguments: A list, a mapping or JSON text, in which a secret follows an option such as ``--api-token``.
    :param config: A mapping or JSON text, which may have all of them.
    :param env_vars: As ``env``.
    """
    from airflow.sdk.log import mask_secret

    headers = _read(config)
    more = headers if isinstance(headers, Mapping) else {}
    for given in (env, env_vars, more.get("env"), more.get("env_vars")):
        for name, value in _variables(given):
            mask_secret(value, name)
    for name, value in (*_options(arguments), *_options(more.get("arguments"))):
        mask_secret(value, name)
    for line in (*_lines(requirements), *_lines(more.get("requirements"))):
        for secret in _URL_CREDENTIALS.findall(line):
            mask_secret(secret)
        for name, value in _URL_QUERY.findall(line):
            mask_secret(value, None if "sig" in name.lower() else name)  # the signature of a pre-signed address


def with_texts(env: Any) -> Any:
    """Return ``env`` with numbers under names such as ``PIN_TOKEN`` as texts, since Airflow hides no numbers.

    Each reaches the script as a text anyway. Applied to ``config``, it changes the ``env`` and the like in it. Options
    of ``arguments`` are treated in the same way.
    """
    if isinstance(env, Mapping):
        return {name: with_texts(value) if name in _NESTED else _text_of(name, value) for name, value in env.items()}
    if isinstance(env, list | tuple):
        return [
            {**each, "value": _text_of(each.get("name"), each.get("value"))}
            if isinstance(each, Mapping) and "value" in each
            else _options_as_texts(each)
            for each in env
        ]
    return env


def _options_as_texts(each: Any) -> Any:
    """Options in a list of arguments; an entry of ``env`` without a value is left for its check."""
    return {name: _text_of(name, value) for name, value in each.items()} if isinstance(each, Mapping) else each


def _text_of(name: Any, value: Any) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if number and is_secret_name(str(name)) else value


def _read(value: Any) -> Any:
    """Read JSON text; None where it is none, which the task itself reports."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return None


def _variables(env: Any) -> Iterator[tuple[str, str]]:
    env = _read(env)
    if isinstance(env, Mapping):
        env = [{"name": name, "value": value} for name, value in env.items()]
    for each in env if isinstance(env, list | tuple) else ():
        if isinstance(each, Mapping) and isinstance(each.get("value"), str):
            yield str(each.get("name")), each["value"]


def _options(arguments: Any) -> Iterator[tuple[str, str]]:
    name = ""
    arguments = _read(arguments)
    for each in [arguments] if isinstance(arguments, Mapping) else _listed(arguments):
        if isinstance(each, Mapping):
            yield from _of_mapping(each)
        option = _OPTION.fullmatch(each) if isinstance(each, str) else None
        if option is not None and option[2] is not None:
            yield option[1].replace("-", "_"), option[2]
        elif option is None and name and isinstance(each, str):
            yield name, each
        name = option[1].replace("-", "_") if option is not None and option[2] is None else ""


def _of_mapping(options: Mapping[Any, Any]) -> Iterator[tuple[str, str]]:
    """The values of options, each under its name; one may have several, and be used several times."""
    if options.keys() == {"name", "value"}:
        options = {options["name"]: options["value"]}
    for name, value in options.items():
        waiting = [value]
        while waiting:
            each = waiting.pop()
            waiting += _listed(each)
            if isinstance(each, str):
                yield str(name).lstrip("-").replace("-", "_"), each


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []


def _lines(requirements: Any) -> Iterator[str]:
    for each in requirements if isinstance(requirements, list | tuple) else [requirements]:
        if isinstance(each, str):
            yield each


def _sealed_for(job_id: str, kept: Any) -> str | None:
    return str(kept["sealed"]) if isinstance(kept, Mapping) and kept.get("job_id") == job_id else None


def _first(texts: Iterable[str]) -> Iterator[str]:
    room = _MOST_TEXT
    for text in texts:
        yield text
        room -= len(text)
        if room <= 0:
            return


def _texts(parameters: Parameters) -> Iterator[str]:
    """Everything of a job that a secret may be in; of a job that is not valid, what the DAG gives."""
    try:
        job = parameters.job
        names = sorted(type(job).model_fields, key="data".__eq__)
        yield from _strings([*(getattr(job, name) for name in names)])
    except TrainingError:  # a try that goes on with an earlier job does not need a valid one
        yield from _strings(parameters.given)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, bytes):
        yield value.decode("utf-8", "replace")
    elif isinstance(value, int | float):
        yield str(value)
    elif isinstance(value, Path):
        yield from _content(value)
    elif isinstance(value, Mapping):
        yield from _strings([*value, *value.values()])
    elif hasattr(type(value), "model_fields"):
        yield from _strings([getattr(value, name) for name in type(value).model_fields])
    elif isinstance(value, Iterable) and not hasattr(value, "open"):
        for each in value:
            yield from _strings(each)


def _content(path: Path) -> Iterator[str]:
    try:
        if path.stat().st_size <= _MOST_DATA:
            yield path.read_bytes().decode("utf-8", "replace")
    except OSError:  # the submit reports it
        return
