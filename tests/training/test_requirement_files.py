# SPDX-License-Identifier: Apache-2.0
"""Requirements in every form become one text, which pip reads, or one sentence."""

from __future__ import annotations

import codecs
import hashlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from airflow.sdk import ObjectStoragePath

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.server.run.environments import find_uv
from airflow_provider_jobapi.server.store.requirement_lines import check_requirements
from airflow_provider_jobapi.training.job import TrainingJob
from airflow_provider_jobapi.training.requirement_files import requirements_text, script_text
from airflow_provider_jobapi.training.requirement_text import Directions, Wheel

PROJECT = """
[project]
name = "Our.Project"
version = "1"
requires-python = ">=3.10"
dependencies = ["numpy>=1", "six"]
[project.optional-dependencies]
gpu = ["cupy"]
all = ["our-project[gpu,plot]"]
plot = ["matplotlib; python_version >= '3.9'"]
[dependency-groups]
train = ["tqdm", {include-group = "test"}]
test = ["pytest"]
loop = [{include-group = "loop"}]
"""

LOCK = """
version = 1
revision = 3
requires-python = ">=3.10"

[[package]]
name = "old-numpy"
version = "1.0"
source = { registry = "https://pypi.org/simple" }
sdist = { url = "https://x/old.tar.gz", hash = "sha256:aa" }
wheels = [{ url = "https://x/old.whl", hash = "sha256:bb" }]

[[package]]
name = "twice"
version = "1.0"
source = { registry = "https://pypi.org/simple" }
resolution-markers = ["python_full_version < '3.12'"]
wheels = [{ url = "https://x/1.whl", hash = "sha256:11" }]

[[package]]
name = "twice"
version = "2.0"
source = { registry = "https://pypi.org/simple" }
resolution-markers = ["python_full_version >= '3.12'"]
wheels = [{ url = "https://x/2.whl", hash = "sha256:22" }]

[[package]]
name = "torch"
version = "2.9.0+cpu"
source = { registry = "https://download.pytorch.org/whl/cpu" }
dependencies = [{ name = "both" }, { name = "windows", marker = "sys_platform == 'win32'" }]
wheels = [{ url = "https://download.pytorch.org/t.whl" }]

[[package]]
name = "both"
version = "3"
source = { registry = "https://pypi.org/simple" }

[[package]]
name = "windows"
version = "4"
source = { registry = "https://pypi.org/simple" }
dependencies = [
    { name = "both" },
    { name = "deep", marker = "python_full_version < '3.12' or platform_machine == 'arm64'" },
]

[[package]]
name = "deep"
version = "5"
source = { registry = "https://pypi.org/simple" }

[[package]]
name = "from-git"
version = "6"
source = { git = "https://github.com/a/b?subdirectory=c&rev=main#0123456789abcdef" }

[[package]]
name = "from-url"
version = "7"
source = { url = "https://x/from_url-7-py3-none-any.whl" }
wheels = [{ url = "https://x/from_url-7-py3-none-any.whl", hash = "sha256:77" }]

[[package]]
name = "rest"
version = "8"
source = { registry = "https://pypi.org/simple" }
[package.optional-dependencies]
speed = [{ name = "deep" }]

[[package]]
name = "never"
version = "9"
source = { registry = "https://pypi.org/simple" }

[[package]]
name = "member"
version = "0"
source = { editable = "packages/member" }
dependencies = [{ name = "old-numpy" }]

[[package]]
name = "ours"
version = "0"
source = { virtual = "." }
dependencies = [
    { name = "torch" },
    { name = "member" },
    { name = "twice", version = "1.0", marker = "python_full_version < '3.12'" },
    { name = "twice", version = "2.0", marker = "python_full_version >= '3.12'" },
]
[package.optional-dependencies]
cpu = [
    { name = "from-url", marker = "extra == 'extra-4-ours-cpu'" },
    { name = "never", marker = "extra == 'extra-4-ours-gpu'" },
]
git = [{ name = "from-git" }]
[package.dev-dependencies]
dev = [{ name = "rest", extra = ["speed"] }]
"""


def read(folder: Path, name: object, **files: str | bytes) -> str:
    for file, content in files.items():
        place = folder / file.replace("__", ".")
        place.write_bytes(content if isinstance(content, bytes) else content.encode())
    return requirements_text(name, folder)


def refused(folder: Path, name: object, **files: str | bytes) -> str:
    with pytest.raises(InvalidJob) as caught:
        read(folder, name, **files)
    assert caught.value.field == "requirements"
    assert "\n" not in str(caught.value)
    return str(caught.value)


def without_hashes(text: str) -> list[str]:
    return re.sub(r" \\\n    --hash=\S+", "", text).splitlines()


def test_the_files_that_a_file_names_take_the_places_of_their_names(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "more.txt").write_text("-r ../last.txt\nmore==1\n")
    text = read(
        tmp_path,
        Path("requirements.txt"),
        requirements__txt="# all\r\nfirst==1\r\n-r deep/more.txt  # and more\r\n--constraint=bounds.txt\r\nsecond\r\n",
        last__txt="last \\\n    --hash=sha256:aa\n",
        bounds__txt="numpy<2  # for now\nlast==3 --hash=sha256:bb\n\n",
    )
    assert text.splitlines() == [
        *("# all", "first==1", "last \\", "    --hash=sha256:aa", "more==1"),
        *("# jobapi: constraint numpy<2", "# jobapi: constraint last==3", "second"),
    ]
    assert Directions.of(text).constraints == ("numpy<2", "last==3")
    check_requirements(text)


@pytest.mark.parametrize("given", ["six\n-r more.txt\n", ["six", "-r more.txt"], ["six", Path("more.txt")]])
def test_lines_of_a_dag_may_name_files_too(tmp_path, given):
    found = read(tmp_path, given, more__txt="numpy\n")
    assert (found if isinstance(found, str) else "\n".join(found)).split() == ["six", "numpy"]


def test_what_names_no_file_stays_as_it_is_byte_for_byte(tmp_path):
    text = "# -r no.txt\nsix==1.0 \\\n  --hash=sha256:aa\n\n--pre\n  numpy ; python_version < '4'\n"
    assert read(tmp_path, "a.txt", a__txt=text) == text
    assert read(tmp_path, text) is text
    assert read(tmp_path, ["six", "numpy"]) == ["six", "numpy"]
    assert read(tmp_path, None) is None


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_a_file_as_windows_writes_it(tmp_path, encoding):
    assert read(tmp_path, Path("a.txt"), a__txt="six\r\n".encode(encoding)).split() == ["six"]
    assert codecs.BOM_UTF16_LE in "six".encode("utf-16")


def test_files_that_name_one_another_without_end(tmp_path):
    assert "a chain of files that name one another" in refused(tmp_path, "a.txt", a__txt="-r b.txt", b__txt="-ra.txt")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("-e .", "'-e .' is a path of this machine"),
        ("-e ./ours", "is a path of this machine"),
        ("--editable=.", "is a path of this machine"),
        (".[gpu]", "is a path of this machine"),
        ("../ours", "is a path of this machine"),
        ("/srv/ours-1.0-py3-none-any.whl", "is a path of this machine"),
        ("../ours-1.0-py3-none-any.whl", "is a path of this machine"),
        ("ours @ file:///srv/ours", "is a path of this machine"),
        ("ours[x]@./ours", "is a path of this machine"),
        ("-e git+https://user:s3cr3t@host/a", "leave out the -e"),
        ("-r https://user:s3cr3t@host/a.txt", "names an address, which is not read: download the file"),
        ("-r gone.txt", "gone.txt, which cannot be read: No such file"),
        ("-c gone.txt", "gone.txt, which cannot be read: No such file"),
    ],
)
def test_what_a_job_cannot_install_is_one_sentence(tmp_path, line, said):
    message = refused(tmp_path, Path("requirements.txt"), requirements__txt=f"six\n{line}\n")
    assert said in message
    assert "s3cr3t" not in message
    if "gone" not in line:
        assert said in refused(tmp_path, f"six\n{line}\n")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("poetry.lock", "`poetry export -o requirements.txt`"),
        ("Pipfile.lock", "`pipenv requirements > requirements.txt`"),
        ("environment.yml", "`pip freeze > requirements.txt`"),
        ("gpu.yaml", "`pip freeze > requirements.txt`"),
        ("setup.py", "`uv pip compile setup.py -o requirements.txt`"),
        (".", "which is a folder: name the file in it"),
    ],
)
def test_files_of_other_forms_name_what_makes_one_that_is_read(tmp_path, name, said):
    for given in (Path(name), name) if name != "." else (Path(name),):
        assert said in refused(tmp_path, given)


def test_a_lock_that_pip_reads(tmp_path):
    text = "# generated by rye\nsix==1.17.0\n    # via ours\n"
    assert read(tmp_path, "requirements.lock", requirements__lock=text) == text
    assert "it is not TOML" in refused(tmp_path, "uv.lock", uv__lock=text)


def test_a_requirements_file_has_no_extras(tmp_path):
    assert "which has no extras" in refused(tmp_path, Path("requirements.txt[gpu]"), requirements__txt="six")


def test_a_requirements_file_with_brackets_in_its_name_is_that_file(tmp_path):
    (tmp_path / "a[b].txt").write_text("six\n")
    assert read(tmp_path, Path("a[b].txt")) == "six\n"


def test_a_file_in_an_object_storage(tmp_path):
    (tmp_path / "a.txt").write_text("-r b.txt\n")
    (tmp_path / "b.txt").write_text("six\n")
    assert read(tmp_path / "elsewhere", ObjectStoragePath(f"file://{tmp_path}/a.txt")) == "six\n"


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("pyproject.toml", ["numpy>=1", "six"]),
        ("pyproject.toml[gpu]", ["numpy>=1", "six", "cupy"]),
        ("pyproject.toml[all]", ["numpy>=1", "six", "cupy", "matplotlib; python_version >= '3.9'"]),
        ("pyproject.toml[gpu, train]", ["numpy>=1", "six", "cupy", "tqdm", "pytest"]),
    ],
)
@pytest.mark.parametrize("kind", [str, Path])
def test_a_project_and_its_extras_and_groups(tmp_path, name, lines, kind):
    text = read(tmp_path, kind(name), pyproject__toml=PROJECT)
    assert text.splitlines() == ["# jobapi: requires-python >=3.10", *lines]


@pytest.mark.parametrize(
    ("content", "name", "said"),
    [
        (PROJECT, "[none]", "no extra or dependency group 'none'; it has all, gpu, loop, plot, test, train."),
        (PROJECT, "[loop]", "the dependency group 'loop' includes itself"),
        ("[tool.poetry.dependencies]\nsix = '*'", "", "those of [tool.poetry] have a form of their own"),
        ("[project]\nname = 'a'", "", "it has no [project] dependencies"),
        ("[project]\nname = 'a'\ndynamic = ['dependencies']", "", "dependencies are dynamic"),
        ("[project]\ndependencies = 'six'", "", "it has no [project] dependencies, a list of texts"),
        ("[project]\ndependencies = []\nrequires-python = '3'", "", "requires-python '3' is no specifier"),
        ("[project\n", "", "it is not TOML"),
        ("project = 3", "", "it has no [project] dependencies"),
        ("[project]\ndependencies = ['a']\n[tool.uv.sources]\nA = {path = 'x'}", "", "the package a is the path x"),
        ("[project]\ndependencies = ['a @ file:///x']", "", "is a path of this machine"),
    ],
)
def test_a_project_that_cannot_be_installed_from(tmp_path, content, name, said):
    assert said in refused(tmp_path, Path(f"pyproject.toml{name}"), pyproject__toml=content)


def test_dependencies_that_setuptools_reads_from_files(tmp_path):
    content = """
        [project]
        dynamic = ["dependencies", "optional-dependencies"]
        [tool.setuptools.dynamic]
        dependencies = {file = ["base.txt"]}
        optional-dependencies.gpu = {file = "gpu.txt"}
    """
    files = {"base__txt": "six\n-r more.txt\n", "more__txt": "numpy\n", "gpu__txt": "cupy\n"}
    assert read(tmp_path, Path("pyproject.toml[gpu]"), pyproject__toml=content, **files) == "six\nnumpy\ncupy"


def test_the_sources_of_uv_become_indexes_and_addresses(tmp_path):
    content = """
        [project]
        dependencies = ["torch>=2", "Our_Git[x]>=1 ; python_version > '3'", "plain", "wheel-of"]
        [tool.uv]
        constraint-dependencies = ["numpy<2"]
        [tool.uv.sources]
        torch = [{ index = "pytorch-cpu", marker = "sys_platform == 'linux'" }]
        our-git = { git = "https://github.com/a/b", tag = "v1", subdirectory = "c" }
        wheel_of = { url = "https://x/w.whl" }
        [[tool.uv.index]]
        name = "pytorch-cpu"
        url = "https://download.pytorch.org/whl/cpu"
        explicit = true
    """
    assert read(tmp_path, "pyproject.toml", pyproject__toml=content).splitlines() == [
        "# jobapi: constraint numpy<2",
        "--extra-index-url https://download.pytorch.org/whl/cpu",
        "torch>=2",
        "Our_Git[x] @ git+https://github.com/a/b@v1#subdirectory=c ; python_version > '3'",
        "plain",
        "wheel-of @ https://x/w.whl",
    ]


HEAD = ["# jobapi: requires-python >=3.10", "# jobapi: exact", "--extra-index-url https://download.pytorch.org/whl/cpu"]
WINDOWS = "sys_platform == 'win32'"


def test_a_lock_of_uv_is_pins_with_hashes_and_markers(tmp_path):
    text = read(tmp_path, Path("uv.lock"), uv__lock=LOCK)
    assert without_hashes(text) == [
        *HEAD,
        "old-numpy==1.0",
        "twice==1.0 ; python_full_version < '3.12'",
        "twice==2.0 ; python_full_version >= '3.12'",
        "torch==2.9.0+cpu",
        "both==3",
        f"windows==4 ; {WINDOWS}",
        f"deep==5 ; (python_full_version < '3.12' or platform_machine == 'arm64') and {WINDOWS}",
    ]
    assert "old-numpy==1.0 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n" in text
    assert "torch==2.9.0+cpu\n" in text  # one of its files has no hash
    check_requirements(text.replace(HEAD[2], ""))


def test_extras_groups_repositories_and_addresses_of_a_lock(tmp_path):
    lines = without_hashes(read(tmp_path, "uv.lock[cpu, dev,git]", uv__lock=LOCK))
    assert [line for line in lines if line.startswith(("deep", "rest", "never", "from"))] == [
        "deep==5",
        "from-git @ git+https://github.com/a/b@0123456789abcdef#subdirectory=c",
        "from-url @ https://x/from_url-7-py3-none-any.whl",
        "rest==8",
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("version = 2", "has version 2 of uv's locks"),
        ("version = 1\n[[package]]\nname = 'a'", "it is not as such a file is"),
        ("", "has version None"),
        (
            LOCK.replace('{ registry = "https://pypi.org/simple" }\nsdist', '{ path = "a.whl" }\nsdist'),
            "is the path a.whl",
        ),
        (LOCK.replace("https://download.pytorch.org/whl/cpu", "../wheels"), "the package index ../wheels is a folder"),
    ],
)
def test_a_lock_that_cannot_be_installed_from(tmp_path, content, said):
    assert said in refused(tmp_path, Path("uv.lock"), uv__lock=content)


PYLOCK = """
lock-version = "1.0"
created-by = "x"
requires-python = ">=3.10"
extras = ["gpu"]
dependency-groups = ["dev", "main"]
default-groups = ["main"]
[[packages]]
name = "six"
version = "1.17.0"
index = "https://pypi.org/simple"
sdist = { url = "https://x/six.tar.gz", hashes = { sha512 = "dd", sha256 = "aa" } }
wheels = [{ name = "six.whl", url = "https://x/six.whl", hashes = { sha256 = "bb" } }]
[[packages]]
name = "torch"
version = "2.9.0+cpu"
marker = "sys_platform == 'linux' and 'gpu' not in extras"
index = "https://download.pytorch.org/whl/cpu/"
wheels = [{ name = "t.whl", url = "https://x/t.whl" }]
[[packages]]
name = "lint"
version = "1"
marker = "'dev' in dependency_groups"
[[packages]]
name = "main"
version = "1"
marker = "'main' in dependency_groups"
[[packages]]
name = "git"
vcs = { type = "git", url = "https://github.com/a/b", commit-id = "012" }
[[packages]]
name = "zip"
archive = { url = "https://x/zip.zip", hashes = { sha256 = "cc" } }
[[packages]]
name = "ours"
directory = { path = ".", editable = true }
"""


def test_a_lock_of_pep_751(tmp_path):
    for name in ("pylock.toml", "pylock.gpu.toml"):
        text = read(tmp_path, Path(name), **{name.replace(".", "__"): PYLOCK})
        assert without_hashes(text) == [
            *HEAD[:2],
            HEAD[2] + "/",
            "six==1.17.0",
            "torch==2.9.0+cpu ; sys_platform == 'linux' and python_version >= '0'",
            "lint==1 ; python_version < '0'",
            "main==1",
            "git @ git+https://github.com/a/b@012",
            "zip @ https://x/zip.zip",
        ]
        assert re.findall(r"--hash=(\S+)", text) == ["sha256:aa", "sha256:bb", "sha256:cc"]
    assert "lint==1\n" in read(tmp_path, Path("pylock.toml[dev]"))
    assert "it has dev, gpu, main" in refused(tmp_path, Path("pylock.toml[x]"))
    assert "lock-version 2.0" in refused(tmp_path, "pylock.toml", pylock__toml=PYLOCK.replace('"1.0"', '"2.0"', 1))
    local = PYLOCK.replace('path = "."', 'path = "../ours"')
    assert "the package ours is the path ../ours" in refused(tmp_path, "pylock.toml", pylock__toml=local)


def wheels(folder: Path, **packages: str) -> Path:
    """Make a flat index with the wheels of some packages and what they depend on."""
    from tests.harness.packages import write_wheel

    folder.mkdir()
    for name, needs in packages.items():
        write_wheel(folder, name, requires=[each for each in needs.split(";") if each])
    return folder


def test_uv_exports_the_same_from_its_own_lock(tmp_path):
    """uv itself, on a project whose packages lie in a folder, is the judge of what is locked and where it is needed."""
    place = wheels(tmp_path / "wheels", aa="bb;cc ;", bb="dd", cc="", dd="", ee="bb")
    content = f"""
        [project]
        name = "ours"
        version = "1"
        requires-python = ">=3.9"
        dependencies = ["aa", "ee ; python_version < '3.11'", "cc ; sys_platform == 'win32'"]
        [tool.uv]
        no-index = true
        find-links = ["{place}"]
    """
    (tmp_path / "pyproject.toml").write_text(content)
    uv, lock = find_uv(), tmp_path / "uv.lock"
    subprocess.run([uv, "lock", "-q", "--project", tmp_path], check=True, cwd=tmp_path, timeout=120)
    lock.write_text(re.sub(r'registry = "[^"]*"', 'registry = "https://pypi.org/simple"', lock.read_text()))
    export = [uv, "export", "-q", "--frozen", "--no-hashes", "--no-header", "--no-annotate", "--no-emit-project"]
    wanted = subprocess.run(export, check=True, cwd=tmp_path, timeout=120, capture_output=True, text=True).stdout
    assert without_hashes(read(tmp_path, "uv.lock"))[2:] == wanted.splitlines()


SCRIPT = """#!/usr/bin/env python3
# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "six",  # of old
#   "torch",
# ]
#
# [tool.uv.sources]
# torch = { index = "pytorch" }
# ///
import six
"""


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_the_head_of_a_script(tmp_path, ending):
    wanted = "# jobapi: requires-python >=3.11\n--extra-index-url pytorch\nsix\ntorch"
    text = SCRIPT.replace("\n", ending)
    assert script_text(text) == wanted
    assert read(tmp_path, Path("train.py"), train__py=text) == wanted
    lock = "version = 1\n[manifest]\nrequirements = [{ name = 'six' }]\n[[package]]\nname = 'six'\nversion = '1'\n"
    lock += "source = { registry = 'https://pypi.org/simple' }\n"
    assert read(tmp_path, Path("train.py.lock"), train__py__lock=lock) == "# jobapi: exact\nsix==1"


@pytest.mark.parametrize("script", ["import six\n", "# /// script\n", "x = '''\n # /// script\n # ///\n'''\n"])
def test_a_script_without_a_head_needs_nothing(script):
    assert script_text(script) == ""


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (SCRIPT + SCRIPT, "has 2 blocks"),
        ("# /// script\n# dependencies = [\n# ///\n", "is not TOML"),
        ("# /// script\n# dependencies = 'six'\n# ///\n", "no list of texts"),
        ("# /// script\n# requires-python = '3.11'\n# ///\n", "is no specifier"),
        ("# /// script\n# dependencies = ['./x']\n# ///\n", "is a path of this machine"),
    ],
)
def test_a_head_that_cannot_be_read_is_one_sentence(script, said):
    with pytest.raises(InvalidJob, match=re.escape(said)) as caught:
        script_text(script)
    assert "\n" not in str(caught.value)


def test_this_repository_has_a_project_that_is_read(tmp_path):
    shutil.copy(Path(__file__).parents[2] / "pyproject.toml", tmp_path)
    text = read(tmp_path, Path("pyproject.toml[server,modelarts,lint]"))
    assert {"pydantic>=2.11", "joserfc>=1.1", "keystoneauth1>=5.6"} <= set(text.splitlines())
    assert hashlib.sha256(text.encode())


@pytest.mark.parametrize(
    ("line", "wheel"),
    [
        ("./a-1.0-py3-none-any.whl", ("a-1.0-py3-none-any.whl", "", "")),
        ("dist/a-1.0-py3-none-any.WHL", ("dist/a-1.0-py3-none-any.WHL", "", "")),
        ("./d/a.whl[x, y] ; python_version > '3'", ("d/a.whl", "[x, y]", " ; python_version > '3'")),
        ("./a.whl --hash=sha256:00", ("a.whl", "", " --hash=sha256:00")),
        ("../a.whl", None),
        ("/a.whl", None),
        ("./x/../a.whl", None),
        ("https://host/a.whl", None),
        ("a @ file:///a.whl", None),
        ("a", None),
        ("a.whl.txt", None),
    ],
)
def test_a_line_that_installs_a_wheel_of_the_job(line, wheel):
    assert Wheel.of(line) == wheel


def test_a_wheel_is_a_file_of_the_job():
    given = {"name": "a", "script": "pass", "requirements": "six\n./dist/a-1.0-py3-none-any.whl\n"}
    assert TrainingJob.of(**given, data={"dist/a-1.0-py3-none-any.whl": b""}).requirements == given["requirements"]
    with pytest.raises(InvalidJob, match=r"has the wheel 'dist/a-1\.0-py3-none-any\.whl', which is no file of the job"):
        TrainingJob.of(**given)
