# SPDX-License-Identifier: Apache-2.0
"""A folder of code: what is uploaded of it, what is left out, and one sentence for what cannot be."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from airflow.sdk import ObjectStoragePath
from upath import UPath

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.services.files import folders
from airflow_provider_jobapi.services.files.code import MOST_BYTES, read_code

Write = Callable[..., Path]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with an entry point."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "train.py").write_text("print(1)\n")
    return folder


@pytest.fixture
def write(project: Path) -> Write:
    """Writes files into the folder."""

    def write(files: dict[str, str]) -> Path:
        for path, text in files.items():
            (project / path).parent.mkdir(parents=True, exist_ok=True)
            (project / path).write_text(text)
        return project

    return write


def uploaded(project: Path, entry_point: str | None = None) -> list[str]:
    return list(read_code(project, entry_point).files)


def test_a_folder_with_a_package_and_its_requirements(project, write):
    write(
        {"pkg/__init__.py": "", "pkg/net.py": "from . import x", "config.yaml": "a: 1", "requirements.txt": "\ufeffsix"}
    )
    code = read_code(project, None)
    assert list(code.files) == ["config.yaml", "pkg/__init__.py", "pkg/net.py", "train.py"]
    assert (code.entry_point, code.requirements, code.left_out) == ("train.py", "six", ())
    assert code.summary() == "4 files, 28 bytes; requirements: those of requirements.txt."
    assert code.warning() == ""
    assert read_code(project, "-m pkg.net").entry_point == "-m pkg.net"
    with pytest.raises(InvalidJob, match=r"give entry_point='-m pkg.net'"):
        read_code(project, "pkg/net.py")


HEAD = '# /// script\n# dependencies = ["six==1.17.0"]\n# ///\n'


@pytest.mark.parametrize(
    ("files", "required_by", "requirements"),
    [
        ({"requirements.txt": "-r base.txt\nsix\n", "base.txt": "numpy\n"}, "requirements.txt", "numpy\nsix\n"),
        ({"requirements.txt": "a\n", "train.py": HEAD, "pyproject.toml": ""}, "requirements.txt", "a\n"),
        ({"train.py": HEAD, "pyproject.toml": '[project]\ndependencies = ["a"]'}, "train.py (PEP 723)", "six==1.17.0"),
        ({"pyproject.toml": '[project]\nname = "x"\ndependencies = ["numpy>=2"]\n'}, "pyproject.toml", "numpy>=2"),
        ({"pyproject.toml": "[tool.ruff]\nline-length = 120\n"}, "", None),
        ({"pyproject.toml": '[project]\nname = "x"\n'}, "", None),
    ],
)
def test_the_requirements_of_a_folder(project, write, monkeypatch, files, required_by, requirements):
    write(files)
    code = read_code(project, None)
    assert (code.required_by, code.requirements) == (required_by, requirements)
    assert read_code(project, None, with_requirements=True).requirements is None
    monkeypatch.chdir(project.parent)
    assert read_code(Path(project.name), None).requirements == requirements


@pytest.mark.parametrize(
    ("name", "content", "command"),
    [
        ("pyproject.toml", "[tool.poetry.dependencies]\nsix = '*'\n", "poetry export -o requirements.txt"),
        ("pyproject.toml", "[tool.poetry.group.main.dependencies]\nsix = '*'\n", "poetry export -o requirements.txt"),
        ("pyproject.toml", "[tool.pdm.dev-dependencies]\ntest = ['six']\n", "pdm export -o requirements.txt"),
        ("pyproject.toml", "[tool.hatch.envs.default]\ndependencies = ['six']\n", "hatch dep show requirements > req"),
        ("gpu.yaml", "channels:\n  - nvidia\ndependencies:\n  - python=3.11\n", "pip freeze > requirements.txt"),
        ("Env.yml", "name: x\ndependencies:\n- pip\n- pip:\n  - six\n", "pip freeze > requirements.txt"),
        ("Pipfile", "", "pipenv requirements > requirements.txt"),
        ("setup.cfg", "", "uv pip compile setup.cfg -o requirements.txt"),
    ],
)
def test_requirements_of_another_program_are_not_passed_over_in_silence(project, write, name, content, command):
    write({name: content})
    assert f"No requirements are installed: {name} has them" in read_code(project, None).warning()
    assert f"`{command}" in read_code(project, None).warning()
    assert read_code(project, None, with_requirements=True).warning() == ""
    write({"requirements.txt": "six"})
    assert read_code(project, None).warning() == ""


def test_a_folder_that_is_a_package_itself(project, write):
    write({"__init__.py": "", "train.py": "from .net import Net\n", "net.py": "", "requirements.txt": "six\n"})
    with pytest.raises(InvalidJob, match=r"give entry_point='-m project.train'"):
        read_code(project, None)
    code = read_code(project, "-m project.train")
    assert list(code.files) == ["project/__init__.py", "project/net.py", "project/train.py"]
    assert code.requirements == "six\n"


def test_caches_and_environments_are_left_out(project, write):
    for path in (
        ".git/config",
        "pkg/__pycache__/a.pyc",
        "a.pyc",
        ".venv/lib/a.py",
        "my-env/pyvenv.cfg",
        "my-env/lib/b.py",
        "conda/conda-meta/x.json",
        ".pytest_cache/x",
        ".mypy_cache/x",
        ".ipynb_checkpoints/x.ipynb",
        ".DS_Store",
        "node_modules/x.js",
    ):
        write({path: ""})
    write({"pkg/a.py": "", ".hydra/config.yaml": ""})
    code = read_code(project, None)
    assert list(code.files) == [".hydra/config.yaml", "pkg/a.py", "train.py"]
    assert {"conda", "my-env", ".git", "pkg/__pycache__"} <= set(code.left_out)
    assert "; left out: .DS_Store, .ipynb_checkpoints, .mypy_cache" in code.summary()


def test_what_looks_like_a_secret_is_left_out_and_said(project, write):
    secret = {".env", "conf/.env.local", "id_rsa", "tls/server.key", ".netrc", ".aws/credentials", "kaggle.json"}
    secret |= {"Credentials.json", "gcp/service_account-1.json", ".streamlit/secrets.toml", ".git-Credentials"}
    write(dict.fromkeys(secret, "x") | {"tls/server.key": "-----BEGIN RSA PRIVATE KEY-----\n"})
    write({".env.example": "", "tls/ca.pem": "-----BEGIN CERTIFICATE-----\n", "environment.py": ""})
    (project / "settings").symlink_to(".env")
    code = read_code(project, None)
    assert list(code.files) == [".env.example", "environment.py", "tls/ca.pem", "train.py"]
    assert set(code.secrets) == (secret | {".aws", "settings"}) - {".aws/credentials"}
    assert code.warning().startswith("What looks like a secret is left out: .aws, .env, ")
    write({".jobapiignore": "!.env\n"})
    assert ".env" in uploaded(project)


GIT_RULES = {
    ".gitignore": "# comment\n*.ckpt\n!keep.ckpt\n/data/\nb*d\n/only/*\n!/only/yes/\n\\#x\r\n"
    "u\u2028one.txt\ntrail\\ \n**/deep/*.tmp\n!",
    "sub/.gitignore": "!one.ckpt\n/local.txt\n*.log\n",
    "sub/more/.gitignore": "!b.log\n",
}
GIT_FILES = (
    *("a.ckpt", "keep.ckpt", "data/a.csv", "sub/data/a.csv", "build", "lib/build/x", "only/no/x", "only/yes/x", "#x"),
    *("trail ", "a/deep/x.tmp", "deep/y.tmp", "sub/one.ckpt", "sub/two.ckpt", "sub/local.txt", "sub/more/local.txt"),
    *("sub/a.log", "sub/more/a.log", "sub/more/b.log", "ünï.txt", "only/file", "one.txt"),
)


def test_ignore_files_mean_what_git_says(project, write):
    write(dict.fromkeys([*GIT_FILES, "mine/a.txt"], "") | GIT_RULES)
    subprocess.run(["git", "init", "-q", project], check=True)
    (project / ".git" / "info").mkdir(exist_ok=True)
    (project / ".git" / "info" / "exclude").write_text("/mine/\n")
    command = ["git", "-C", project, "-c", "core.excludesFile=", "ls-files", "-z", "--others", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, check=True, text=True).stdout.split("\0")[:-1]
    assert uploaded(project) == sorted(path for path in listed if not path.endswith(".gitignore"))


def test_the_exclude_file_of_a_worktree_and_of_a_submodule(tmp_path, project, write):
    def git(*words: object) -> None:
        user = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(["git", "-C", tmp_path / "main", *user, *words], check=True, capture_output=True)

    (tmp_path / "main").mkdir()
    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "a")
    git("worktree", "add", "-q", "../worktree")
    (tmp_path / "main" / ".git" / "modules").mkdir()
    git("init", "-q", "--separate-git-dir", tmp_path / "main" / ".git" / "modules" / "sub", tmp_path / "submodule")
    for folder, exclude in (("worktree", ".git/info/exclude"), ("submodule", ".git/modules/sub/info/exclude")):
        (tmp_path / "main" / exclude).parent.mkdir(exist_ok=True)
        (tmp_path / "main" / exclude).write_text(f"{folder}.txt\n")
        place = tmp_path / folder
        for name in ("train.py", f"{folder}.txt", "a.txt"):
            (place / name).touch()
        assert uploaded(place) == ["a.txt", "train.py"]


def test_ignore_files_above_count_up_to_the_repository(tmp_path, project, write):
    write({"a.ckpt": "", "rows/a.csv": "", "b.txt": ""})
    (tmp_path / ".gitignore").write_text("*.ckpt\n/project/rows/\n")
    assert "a.ckpt" in uploaded(project)
    (tmp_path / ".git").mkdir()
    assert uploaded(project) == ["b.txt", "train.py"]
    write({".jobapiignore": "!*.ckpt\n!rows/\nb.txt\n"})
    assert uploaded(project) == ["a.ckpt", "rows/a.csv", "train.py"]
    (tmp_path / ".gitignore").write_text("/project/\n*.csv\n")
    assert "rows/a.csv" in uploaded(project), "a folder that its repository ignores is the user's own choice"


def test_a_pattern_of_the_repository_is_not_one_of_a_folder_in_it(tmp_path, project, write):
    write({"a.ckpt": ""})
    (tmp_path / ".git").mkdir()
    (tmp_path / "deep").mkdir()
    (tmp_path / ".gitignore").write_text("/project/\n*.ckpt\n")
    assert uploaded(project.rename(tmp_path / "deep" / "project")) == ["train.py"]


def test_ignore_files_of_a_bundle_without_git(tmp_path, project, write):
    write({"a.ckpt": ""})
    (tmp_path / ".jobapiignore").write_text("*.ckpt\n")
    assert list(read_code(project, None, bundle=tmp_path).files) == ["train.py"]


def test_links_inside_are_followed(project, write):
    write({"pkg/a.py": "x", "shared/data.txt": "d"})
    (project / "b.py").symlink_to("pkg/a.py")
    (project / "pkg" / "shared").symlink_to("../shared")
    (project / "other").symlink_to(project / "pkg")
    code = read_code(project, None)
    assert list(code.files) == [
        *(
            "b.py",
            "other/a.py",
            "other/shared/data.txt",
            "pkg/a.py",
            "pkg/shared/data.txt",
            "shared/data.txt",
            "train.py",
        )
    ]
    with code.files["b.py"].open("rb") as file:
        assert file.read() == b"x"


@pytest.mark.parametrize(
    ("path", "target", "problem"),
    [
        ("passwd", "/etc/passwd", "is a link to .*, outside of the folder"),
        ("up", "../..", "is a link to .*, outside of the folder"),
        ("pkg/here", ".", "is a link to a folder that it is in"),
        ("pkg/root", "..", "is a link to a folder that it is in"),
        ("gone", "nowhere", "is a link to .*nowhere, which does not exist"),
        ("self", "self", "is a link to .*, which does not exist"),
        ("history", ".git/HEAD", "is a link to .*, outside of the folder"),
        ("null", "/dev/null", "is a link to .*, outside of the folder"),
    ],
)
def test_links_that_leave_or_lead_nowhere(project, write, path, target, problem):
    write({"pkg/a.py": "", ".git/HEAD": ""})
    (project / path).symlink_to(target)
    with pytest.raises(
        InvalidJob, match=rf"^source .*project has {path}, which {problem}: remove it, .* .jobapiignore"
    ):
        read_code(project, None)
    write({".jobapiignore": f"{path}\n"})
    assert uploaded(project) == ["pkg/a.py", "train.py"]


def test_links_to_each_other_end(project):
    for one, other in (("a", "b"), ("b", "a")):
        (project / one).mkdir()
        (project / one / "link").symlink_to(f"../{other}")
    with pytest.raises(InvalidJob, match=r"is a link to a folder that it is in"):
        read_code(project, None)


def test_special_files_and_names(project):
    os.mkfifo(project / "pipe")
    with pytest.raises(InvalidJob, match=r"has pipe, which is neither a file nor a folder"):
        read_code(project, None)
    (project / "pipe").unlink()
    for name in (b"a\\b", b"\xff", b"a\nb"):
        place = os.fsencode(project) + b"/" + name
        with open(place, "w"):  # noqa: PTH123 -- a name of bytes
            pass
        with pytest.raises(InvalidJob, match=r"which cannot be the name of a job's file"):
            read_code(project, None)
        os.unlink(place)  # noqa: PTH108


def test_a_folder_that_is_too_large_names_the_biggest(project, write, monkeypatch):
    write({"data/a.bin": "", "data/b.bin": "", "model.ckpt": "", "pkg/a.py": "x"})
    for path, size in (("data/a.bin", MOST_BYTES), ("data/b.bin", 5), ("model.ckpt", 70_000_000)):
        os.truncate(project / path, size)
    sentence = (
        r"has 5 files and 570.0 MB, and may have 10,000 files and 500.0 MB. The biggest are "
        r"data/ \(2 files, 500.0 MB\), pkg/ \(1 file, 1 byte\), data/a.bin \(500.0 MB\), model.ckpt \(70.0 MB\), .* "
        r"Name what the job does not need in .*/project/.jobapiignore, and give data in data_input.$"
    )
    with pytest.raises(InvalidJob, match=sentence) as caught:
        read_code(project, None)
    assert caught.value.field == "source"
    write({".jobapiignore": "data\n*.ckpt\n"})
    assert uploaded(project) == ["pkg/a.py", "train.py"]
    monkeypatch.setattr(folders, "MOST_INPUTS", 1)
    with pytest.raises(InvalidJob, match=r"has 2 files and 10 bytes, and may have 1 file"):
        read_code(project, None)


def test_a_folder_without_end_is_not_walked_to_its_end(project, write, monkeypatch):
    monkeypatch.setattr(folders, "MOST_SEEN", 3)
    write({f"{n}.txt": "" for n in range(9)})
    with pytest.raises(InvalidJob, match=r"has more than 3 files, and a job may have 10,000. The biggest are"):
        read_code(project, None)


def test_what_is_no_folder_of_code(tmp_path, project, write):
    with pytest.raises(InvalidJob, match=r"^source .*/gone does not exist"):
        read_code(tmp_path / "gone", None)
    with pytest.raises(InvalidJob, match=r"train.py is a file, not a folder"):
        read_code(project / "train.py", None)
    write({".jobapiignore": "*\n"})
    with pytest.raises(InvalidJob, match=r"has no file for the job; left out are .jobapiignore, train.py"):
        read_code(project, None)
    write({".jobapiignore": "", "requirements.txt": ""})
    (project / "requirements.txt").write_bytes(b"\xff")
    with pytest.raises(InvalidJob, match=r"requirements.txt, which cannot be read: it is not UTF-8"):
        read_code(project, None)


def test_a_notebook_is_no_entry_point(project, write):
    (project / "train.py").unlink()
    write({"nb.ipynb": '{"cells": [], "nbformat": 4}'})
    for entry_point in (None, "nb.ipynb"):
        with pytest.raises(InvalidJob, match=r"`jupyter nbconvert --to script nb.ipynb`"):
            read_code(project, entry_point)
    write({"train.py": '{"cells": [], "nbformat": 4}'})
    with pytest.raises(InvalidJob, match=r"entry_point is the content of a notebook"):
        read_code(project, None)


def test_a_folder_that_cannot_be_read(project, write):
    if os.geteuid() == 0:
        return  # root reads everything
    write({"closed/a.py": ""})
    (project / "closed").chmod(0)
    try:
        with pytest.raises(InvalidJob, match=r"the folder .*/closed cannot be read: Permission denied"):
            read_code(project, None)
    finally:
        (project / "closed").chmod(0o700)


def test_a_folder_in_an_object_store(project, write):
    write({"pkg/a.py": "a", "pkg/.gitignore": "*.log\n", "pkg/a.log": "", ".env": "", "requirements.txt": "six"})
    store = UPath("memory://code-of-a-test/project")
    for path in project.rglob("*"):
        if path.is_file():
            (store / path.relative_to(project).as_posix()).write_bytes(path.read_bytes())
    here, there = read_code(project, None), read_code(store, None)
    of_file = read_code(ObjectStoragePath(f"file://{project}"), None)
    assert list(here.files) == list(there.files) == list(of_file.files) == ["pkg/a.py", "train.py"]
    assert (there.entry_point, there.requirements, there.secrets, there.size) == (
        "train.py",
        "six",
        (".env",),
        here.size,
    )
    with there.files["pkg/a.py"].open("rb") as file:
        assert file.read() == b"a"
    with pytest.raises(InvalidJob, match=r"has no file: there is nothing below memory://code-of-a-test/gone"):
        read_code(UPath("memory://code-of-a-test/gone"), None)


def test_the_requirements_of_a_folder_name_others_and_its_script_may_have_them_at_its_head(project, write):
    write({"train.py": "# /// script\n# dependencies = ['six']\n# ///\n"})
    assert read_code(project, None).requirements == "six"
    write({"requirements.txt": "numpy\n-r more/base.txt\n", "more/base.txt": "pandas\n"})
    assert read_code(project, None).requirements == "numpy\npandas\n"
    write({"requirements.txt": "-e .\n"})
    with pytest.raises(InvalidJob, match=r"'-e \.' is a path of this machine"):
        read_code(project, None)
