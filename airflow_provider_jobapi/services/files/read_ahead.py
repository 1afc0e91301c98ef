# SPDX-License-Identifier: Apache-2.0
"""Read the small files of a model by few requests, ahead of the threads that write them."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from threading import Lock

from airflow_provider_jobapi.services.files.stores import ObjectStore, StreamingStore
from airflow_provider_jobapi.services.files.transfers import SMALL
from airflow_provider_jobapi.services.retry import Retry

_FILES, _BYTES = 250, 4 * 2**20
"""The most files and bytes of one request."""

_KEPT = 3
"""How many answers are in memory at the same time."""


class ReadAhead:
    """The bytes of the small files of a model, where the store can send many by one request. Safe for threads.

    :param sizes: The bytes of each file by its key, in the order in which they are taken.
    """

    def __init__(self, store: ObjectStore, sizes: Mapping[str, int], retry: Retry) -> None:
        self._retry = retry
        self._answers: dict[str, _Answer] = {}
        self._kept: deque[_Answer] = deque()
        self._lock = Lock()
        if not isinstance(store, StreamingStore):
            return
        answer = _Answer(store)
        for key, size in sizes.items():
            if size > SMALL:
                continue
            if len(answer.sizes) == _FILES or sum(answer.sizes.values()) + size > _BYTES:
                answer = _Answer(store)
            answer.sizes[key] = size
            self._answers[key] = answer

    def take(self, key: str) -> bytes | None:
        """Return the bytes of a file, once; None where it is to be read by itself.

        :raises TrainingError: when the store cannot be reached.
        """
        answer = self._answers.get(key)
        if answer is None or len(answer.sizes) == 1:
            return None
        with answer.lock:
            if answer.content is None:
                answer.content = self._retry.call(lambda: answer.store.read_all(answer.sizes))
                self._keep(answer)
            return answer.content.pop(key, None)

    def _keep(self, answer: _Answer) -> None:
        """Forget the oldest answer: what was not taken of it was not needed, or is read by itself."""
        with self._lock:
            self._kept.append(answer)
            if len(self._kept) > _KEPT:
                self._kept.popleft().content = {}


class _Answer:
    def __init__(self, store: StreamingStore) -> None:
        self.store = store
        self.sizes: dict[str, int] = {}
        self.content: dict[str, bytes] | None = None
        self.lock = Lock()
