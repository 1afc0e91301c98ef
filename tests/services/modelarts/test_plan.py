# SPDX-License-Identifier: Apache-2.0
"""Name and description of a job, the files of its folder, and service options."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.services.files.sources import Source, measure_all
from airflow_provider_jobapi.services.modelarts import boot, plan
from airflow_provider_jobapi.services.modelarts.plan import Options
from airflow_provider_jobapi.training.job import TrainingJob

ID = str(uuid.uuid4())


def job(**fields: Any) -> TrainingJob:
    return TrainingJob.of(**({"name": "test", "script": "print(1)"} | fields))


def read(source: Source) -> bytes:
    with source.open(lambda _: None) as file:
        return file.read()


@pytest.mark.parametrize(("name", "slug"), [("a.b c", "a-b-c"), ("x" * 100, "x" * 27), ("mnist_1", "mnist_1")])
def test_job_name(name: str, slug: str) -> None:
    made = plan.job_name(name, ID)
    assert made == f"{slug}-{ID}"
    assert len(made) <= 64


def test_description() -> None:
    said = plan.description(ID, "a" * 64)
    assert len(said) <= 256
    assert plan.has_job_id(f"x-{ID}", said, ID)
    assert plan.digest_in(said) == "a" * 64
    assert not plan.has_job_id(f"x-{ID}", "somebody's", ID)
    assert not plan.has_job_id(f"x-{ID}", plan.description(ID + "0", "a" * 64), ID)
    assert not plan.has_job_id("x", said, ID)
    assert plan.digest_in(f"airflow:{ID}") is None


def test_digest_covers_the_whole_job() -> None:
    def digest(**fields: Any) -> str:
        made = job(**fields)
        return plan.job_digest(made, measure_all(made.files()))

    every = [digest(), digest(script="print(2)"), digest(data={"a": "b"}), digest(service_options={"nodes": 2})]
    every += [digest(service_options={"nodes": 3}), digest(arguments=["5"])]
    assert len(set(every)) == 6
    assert digest(nodes=2) == digest(service_options={"nodes": 2})
    assert digest() == every[0]


@pytest.mark.parametrize("installs", [True, False])
def test_the_files_of_a_folder(installs: bool) -> None:
    made = job(
        env={"Epochs": "5"}, requirements=["a==1"], completion_time="2m", data={"deep/a.csv": b"1", "b.csv": "2"}
    )
    found = plan.files(made, ID, measure_all(made.files()), installs=installs)
    requirements = "pip-requirements.txt" if installs else "requirements.txt"
    assert sorted(found) == sorted(
        [
            *("code/modelarts_boot.py", f"code/{boot.JOB}", "code/train.py", f"code/{requirements}"),
            *("code/boot_checkpoints.py", "code/boot_work_folder.py"),
            *("code/checkpoint_formats.py", "code/checkpoint_rules.py"),
            *("data/.keep", "data/deep/a.csv", "data/b.csv", "output/.keep"),
        ]
    )
    assert json.loads(read(found[f"code/{boot.JOB}"])) == {
        "id": ID,
        "script": "train.py",
        "env": {"Epochs": "5"},
        "seconds": 120.0,
        "requirements": "" if installs else "requirements.txt",
    }
    assert read(found["code/modelarts_boot.py"]).startswith(b"# SPDX")
    assert read(found["data/deep/a.csv"]) == b"1"


def test_what_the_platform_could_not_follow_is_installed_by_the_boot_file() -> None:
    text = "# jobapi: exact\n# jobapi: constraint b<2\n# jobapi: requires-python >=3.7\na==1\n"
    made = job(requirements=text)
    found = plan.files(made, ID, measure_all(made.files()), installs=True)
    assert {"code/requirements.txt", "code/pip_directions.py"} <= found.keys()
    settings = json.loads(read(found[f"code/{boot.JOB}"]))
    assert (settings["requirements"], settings["exact"], settings["constraints"]) == ("requirements.txt", True, ["b<2"])
    assert settings["requires_python"] == ">=3.7"
    plan.check_requirements(job(requirements="--extra-index-url https://x/simple\na"))
    with pytest.raises(InvalidJob, match="ModelArts has no names of package indexes: give the index's address"):
        plan.check_requirements(job(requirements="--extra-index-url pytorch\na"))


SOURCE = {"fit.py": "x", "nets/run.py": "", "requirements.txt": "a"}


def test_the_files_of_a_folder_of_code() -> None:
    made = job(
        script=None, source=SOURCE, entry_point="-m nets.run", env={"A": 1}, env_vars={"B": 2}, data={"rows.csv": "1"}
    )
    found = plan.files(made, ID, measure_all(made.files()), installs=True)
    assert sorted(found) == [
        *("code/boot_checkpoints.py", "code/boot_work_folder.py"),
        *("code/checkpoint_formats.py", "code/checkpoint_rules.py"),
        *("code/jobapi_job.json", "code/modelarts_boot.py", "code/pip-requirements.txt"),
        *("data/.keep", "data/fit.py", "data/nets/run.py", "data/rows.csv", "output/.keep"),
    ]
    settings = json.loads(read(found[f"code/{boot.JOB}"]))
    assert settings == {
        "id": ID,
        "script": "",
        "program": ["-m", "nets.run"],
        "code": ["fit.py", "nets/run.py"],
        "env": {"A": "1", "B": "2"},
        "named": ["A"],
        "seconds": None,
        "requirements": "",
    }


@pytest.mark.parametrize(("line", "settings"), [("six", ""), ("./w/ours-1.0-py3-none-any.whl", "requirements.txt")])
def test_wheels_of_the_job_are_installed_where_they_are(line: str, settings: str) -> None:
    """By the boot file in the working directory; the platform installs before it is made."""
    made = job(requirements=[line], data={"w/ours-1.0-py3-none-any.whl": b"x"})
    found = plan.files(made, ID, measure_all(made.files()), installs=True)
    assert json.loads(read(found[f"code/{boot.JOB}"]))["requirements"] == settings
    assert f"code/{settings or 'pip-requirements.txt'}" in found


def test_a_script_beside_a_folder_of_code() -> None:
    made = job(source={"train.py": "x", "lib.py": ""})
    found = plan.files(made, ID, measure_all(made.files()), installs=True)
    assert {"code/train_.py", "data/train.py", "data/lib.py"} <= found.keys()
    settings = json.loads(read(found[f"code/{boot.JOB}"]))
    assert (settings["script"], settings["program"]) == ("train_.py", ["train_.py"])


def test_options() -> None:
    more = {"config": {"log_url": "/b/l/"}}
    assert Options.of({"flavor": "f", "engine": 4, "nodes": 2, **more}) == Options("f", "4", 2, more)
    assert Options.of({"spec_code": "f"}) == Options("f", None, 1, {})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"flavor": "a", "spec_code": "b"}, "remove one"),
        ({"flavor": ["a"]}, "flavor = "),
        ({"engine": " "}, "engine = "),
        ({"nodes": 0}, "nodes = 0"),
        ({"nodes": True}, "nodes = True"),
        ({"config": {"x": {1, 2}}}, "JSON"),
    ],
)
def test_invalid_options(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidJob, match=said):
        Options.of(given)


def test_the_nodes_of_the_job_are_the_nodes_of_the_options() -> None:
    assert Options.of({}, 3).nodes == Options.of({"nodes": 3}).nodes == Options.of({"nodes": 3}, 3).nodes == 3
    with pytest.raises(InvalidJob, match="nodes = 2, but the job has nodes = 3"):
        Options.of({"nodes": 2}, 3)


def test_a_job_without_a_script_is_refused() -> None:
    with pytest.raises(InvalidJob, match=r"^script is missing"):
        plan.check_script(job(script=None, image="trainer:1"))
    plan.check_script(job())


def test_reserved_env() -> None:
    with pytest.raises(InvalidJob, match="--data_url"):
        plan.check_env(job(env={"DATA_URL": "x"}))
