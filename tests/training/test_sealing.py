# SPDX-License-Identifier: Apache-2.0
"""What is sealed is read with any of its keys, and with no other."""

from __future__ import annotations

from airflow_provider_jobapi.training.sealing import SealKey, seal, unseal

AIRFLOW, OTHER = (SealKey("airflow", bytes([number]) * 32, random=True) for number in (1, 2))
CONNECTION, ROTATED = (SealKey("connection", secret) for secret in (b"before", b"after"))
VALUES = ("a secret", "ünd\nmore")


def test_each_key_opens_it():
    sealed = seal(VALUES, [AIRFLOW, CONNECTION])
    assert unseal(sealed, [AIRFLOW]) == unseal(sealed, [ROTATED, OTHER, CONNECTION]) == VALUES


def test_no_other_key_opens_it():
    sealed = seal(VALUES, [AIRFLOW, CONNECTION])
    assert unseal(sealed, [OTHER, ROTATED]) is None
    assert unseal(sealed, [SealKey("airflow", CONNECTION.secret), SealKey("connection", AIRFLOW.secret)]) is None
    assert unseal(sealed, []) is None
    assert unseal(seal(VALUES, []), [AIRFLOW, CONNECTION]) is None


def test_it_shows_nothing_of_the_values():
    sealed = seal(VALUES, [AIRFLOW])
    assert sealed != seal(VALUES, [AIRFLOW])
    assert len(sealed) == len(seal(["b"], [AIRFLOW])), "their length would be told"
    assert "before" not in repr(CONNECTION)


def test_what_was_changed_is_refused():
    sealed = seal(VALUES, [AIRFLOW])
    for damaged in (
        sealed[:-8],
        sealed[:200] + ("A" if sealed[200] != "A" else "B") + sealed[201:],
        "",
        "é",
        "bnVsbA==",
    ):
        assert unseal(damaged, [AIRFLOW]) is None
