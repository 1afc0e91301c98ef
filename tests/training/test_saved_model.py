# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from airflow_provider_jobapi.training.model import choose, is_marker


@pytest.mark.parametrize(
    ("markers", "path"),
    [
        ({"model/saved_model.pb": 1}, "model"),
        ({"model/1/saved_model.pb": 1, "export/saved_model.pb": 9}, "model/1"),
        ({"export/1500/saved_model.pb": 1, "export/1600/saved_model.pb": 2}, "export/1600"),
        ({"saved_model.pb": 5}, "."),
        ({"a/b/saved_model.pb": 5, "c/saved_model.pb": 5}, "c"),
        ({"tfs/saved_model.pbtxt": 5}, "tfs"),
        ({"modelling/saved_model.pb": 1, "z/saved_model.pb": 2}, "z"),
    ],
)
def test_the_model_is_where_jobs_are_asked_to_write_it_then_the_newest_then_the_nearest(markers, path):
    choice = choose(markers.items())
    assert choice is not None
    assert choice.path == path
    assert len(choice.others) == len(markers) - 1


@pytest.mark.parametrize("left", ["temp-1600", "temp-b'1600'"])
def test_what_an_export_left_that_did_not_end_never_wins_over_a_model(left):
    for base in ("model/", "model/export/", ""):
        markers = {f"{base}{left}/saved_model.pb": 9, "export/1500/saved_model.pb": 1}
        choice = choose(markers.items())
        assert choice is not None
        assert (choice.path, choice.others) == ("export/1500", (f"{base}{left}",))
        alone = choose([(f"{base}{left}/saved_model.pb", 9)])
        assert alone is not None
        assert alone.path == f"{base}{left}"
    named = choose([("export/temp-best/saved_model.pb", 9), ("export/1500/saved_model.pb", 1)])
    assert named is not None
    assert named.path == "export/temp-best"


def test_a_job_without_a_model_has_none():
    assert choose([]) is None


def test_both_formats_in_one_directory_are_one_model():
    choice = choose([("m/saved_model.pb", 1), ("m/saved_model.pbtxt", 2)])
    assert choice is not None
    assert choice.others == ()


@pytest.mark.parametrize(
    ("path", "marks"), [("m/saved_model.pb", True), ("saved_model.pbtxt", True), ("my_saved_model.pb", False)]
)
def test_only_the_marker_files_mark(path, marks):
    assert is_marker(path) is marks
