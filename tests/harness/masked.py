# SPDX-License-Identifier: Apache-2.0
"""Airflow's secrets masker is after each test as it was before it.

A connection whose token is the word "token" would otherwise hide that word from the logs of every later test of its
process.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

# One for Airflow itself, one for its task SDK; a process that has imported neither has masked nothing.
_MODULES = ("airflow._shared.secrets_masker", "airflow.sdk._shared.secrets_masker")


@pytest.fixture(autouse=True)
def _secrets_masked_before() -> Iterator[None]:
    """Forget what a test masked, whichever test runs next."""
    before = {name: (set(masker.patterns), masker.replacer) for name, masker in _maskers().items()}
    yield
    for name, masker in _maskers().items():
        masker.patterns, masker.replacer = before.get(name, (set(), None))


def _maskers() -> dict[str, Any]:
    return {name: sys.modules[name]._secrets_masker() for name in _MODULES if name in sys.modules}
