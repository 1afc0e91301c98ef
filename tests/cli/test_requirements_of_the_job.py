# SPDX-License-Identifier: Apache-2.0
"""The requirements that ``jobapi submit`` sends: of a file in any form, of the folder, or of the script's head."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_provider_jobapi.cli.submission import Prepared, prepare
from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.training.job_file import JobFile

INSTALL = "pip3 install -r requirements.txt && python3 train.py --a=b"
HEAD = "# /// script\n# requires-python = '>=3.9'\n# dependencies = ['six']\n# ///\nimport six\n"


def submitted(
    folder: Path, requirements: str | None = None, command: str = "python3 train.py --a=b", **more
) -> Prepared:
    job = {"name": "a", "execution": {"command": command}} | more
    return prepare(JobFile.model_validate({"job": job}), str(folder), None, lambda _: None, requirements)


def text(prepared: Prepared) -> str | None:
    source = prepared.sources.get("requirements.txt")
    return None if source is None else source.open(lambda _: None).read().decode()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "train.py").write_text("print('hello')\n")
    (tmp_path / "pyproject.toml").write_text('[project]\ndependencies = ["numpy"]\n')
    return tmp_path / "files"


def test_a_folder_without_requirements_is_sent_as_ever(folder):
    prepared = submitted(folder)
    assert [file.path for file in prepared.job_file.job.inputs] == ["train.py"]
    assert prepared.job_file.job.execution.command == "python3 train.py --a=b"


def test_a_requirements_file_of_the_folder_is_sent_byte_for_byte(folder):
    content = b"\xef\xbb\xbfsix\r\n\r\n# end"
    (folder / "requirements.txt").write_bytes(content)
    (folder / "train.py").write_text(HEAD)
    prepared = submitted(folder)
    assert prepared.sources["requirements.txt"].size == len(content)
    assert prepared.job_file.job.execution.command == "python3 train.py --a=b"


@pytest.mark.parametrize(
    ("given", "wanted"),
    [("pyproject.toml", "numpy\n"), ("six==1.17.0", "six==1.17.0\n"), ("files/more.txt", "pandas\n")],
)
def test_what_is_named_takes_the_place_of_the_folders_own(folder, given, wanted):
    (folder / "requirements.txt").write_text("six\n")
    (folder / "more.txt").write_text("pandas\n")
    prepared = submitted(folder, given)
    assert text(prepared) == wanted
    assert prepared.job_file.job.execution.command == INSTALL
    assert [file.path for file in prepared.job_file.job.inputs] == ["more.txt", "requirements.txt", "train.py"]


def test_the_head_of_the_script_is_used_where_nothing_else_is_given(folder):
    (folder / "train.py").write_text(HEAD)
    prepared = submitted(folder)
    assert text(prepared) == "# jobapi: requires-python >=3.9\nsix\n"
    assert prepared.job_file.job.execution.command == INSTALL
    assert text(submitted(folder, command="python3 -c 'print(1)'")) is None


def test_files_that_the_folders_own_names_are_put_into_it(folder):
    (folder / "requirements.txt").write_text("-r base.txt\n-c bounds.txt\n")
    (folder / "base.txt").write_text("six\n")
    (folder / "bounds.txt").write_text("numpy<2\n")
    assert text(submitted(folder)) == "six\n# jobapi: constraint numpy<2\n"


def test_a_job_without_a_folder_gets_them_too(folder):
    job = {"name": "a", "execution": {"command": "python train.py"}}
    prepared = prepare(JobFile.model_validate({"job": job}), None, None, lambda _: None, "pyproject.toml")
    assert [file.path for file in prepared.job_file.job.inputs] == ["requirements.txt"]
    assert prepared.job_file.job.execution.command == "pip install -r requirements.txt && python train.py"


def test_requirements_beside_named_inputs_are_refused(folder):
    with pytest.raises(InvalidJob, match="leave out --requirements, or inputs"):
        submitted(folder, "six", inputs=[])


def test_the_command_takes_the_option(work, command, jobapi_server):
    (work / "files" / "train.py").write_text("# nothing to import\nprint('hello')\n")
    done = command("submit", "-f", "job.yaml", "files", "-r", "-e .")
    assert (done.code, done.out) == (2, "")
    assert "'-e .' is a path of this machine" in done.err
    (work / "bounds.txt").write_text("numpy<2\n")
    (work / "own.txt").write_text("-c bounds.txt\n")
    done = command("submit", "-f", "job.yaml", "files", "--requirements=own.txt", "-w")
    assert done.code == 0, done.err
    assert "Its requirements are those of own.txt." in done.err
    assert "hello" in done.out


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("# jobapi: constraint a<2", "constraints (-c)"),
        ("-i pytorch", "the package index of '-i pytorch' by its name"),
        ("--extra-index-url https://me:secret@x/simple", "the option --extra-index-url"),
        ("  -f=https://x/", "the option -f"),
        ("--pre", "the option --pre"),
        ("./dist/a-1-py3-none-any.whl", "the wheel 'dist/a-1-py3-none-any.whl'"),
    ],
)
def test_an_older_server_is_named_before_the_upload(line, said):
    from airflow_provider_jobapi.training.job_features import SERVER_FEATURES
    from airflow_provider_jobapi.training.requirement_text import check_known

    check_known(f"six\n{line}\n", SERVER_FEATURES, has_pip=False)
    check_known("# jobapi: exact\n# jobapi: requires-python >=3\nsix \\\n  --hash=sha256:00\n", (), has_pip=False)
    check_known("# jobapi: exact\n# jobapi: requires-python >=3\n-i https://x/simple\n--pre\nsix\n", (), has_pip=True)
    with pytest.raises(InvalidJob) as caught:
        check_known(f"six\n{line}\n", (), has_pip=False)
    assert f"does not know {said} in requirements" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_job_that_lacks_a_package_says_which_after_its_log(work, command):
    (work / "files" / "train.py").write_text("import sklearn\n")
    done = command("submit", "-f", "job.yaml", "files", "-w")
    advice = "The job's environment has no module sklearn: add its package, scikit-learn, to requirements."
    assert done.code == 1
    assert advice in done.err
    assert advice in command("logs", done.out.split()[0]).err


def test_the_packages_of_a_job_are_printed_and_given_back(work, command, jobapi_server):
    (work / "files" / "train.py").write_text("print('hello')\n# to list\n")
    done = command("submit", "-f", "job.yaml", "files", "-r", "# nothing", "-w")
    job_id = done.out.split()[0]
    listed = command("environment", job_id)
    assert (listed.code, listed.err) == (0, "")
    assert f"# The packages of job {job_id}, Python 3." in listed.out
    (work / "again.txt").write_text(listed.out)
    assert command("submit", "-f", "job.yaml", "files", "-r", "again.txt", "-w").code == 0
    assert jobapi_server.status(job_id)["environment"] == f"jobs/{job_id}/environment"
    answer = jobapi_server.request("GET", f"/api/v2/jobs/{job_id}/environment").json()
    assert answer == {"job_id": job_id, "environment": {"requirements": listed.out}}


def test_a_job_that_has_no_list_says_why(command, jobapi_server):
    job_id = jobapi_server.submit(files={"requirements.txt": "no-such-package-of-ours==0\n"})
    jobapi_server.wait_for(job_id)
    done = command("environment", job_id)
    assert (done.code, done.out) == (2, "")
    assert f"Job {job_id} has no list of its packages: its environment is not made" in done.err
    assert command("environment", "00000000-0000-0000-0000-000000000000").code == 2
