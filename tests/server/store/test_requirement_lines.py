# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.server.store.requirement_lines import (
    DEFAULT,
    EXTRA,
    LINKS,
    InstallPlan,
    Installs,
    check_requirements,
    with_wheels,
)

GOOD = [
    "tensorflow==2.21.0",
    "six",
    "numpy>=1.26,<3 ; python_version >= '3.9'",
    "scikit-learn[tests] ~= 1.5  # pinned",
    "six==1.17.0 --hash=sha256:" + "a" * 64,
    "# -e . is only said, not done",
    "   ",
]


@given(st.lists(st.sampled_from(GOOD)), st.booleans())
def test_packages_versions_markers_hashes_and_comments_are_installed(lines, allow_urls):
    check_requirements("\n".join(lines), allow_urls)


def test_continued_lines_are_joined():
    check_requirements("six==1.17.0 \\\n  --hash=sha256:aa \\\n  --hash=sha256:bb\nnumpy")


@pytest.mark.parametrize(
    ("line", "because"),
    [
        ("-e .", "option"),
        ("-r other.txt", "option"),
        ("--index-url=https://example.com/simple", "option"),
        ("--extra-index-url https://example.com/simple", "option"),
        ("six --no-binary :all:", "option"),
        ("./six.whl", "wheel that is no file of the job"),
        ("/tmp/six", "path"),
        ("~/six", "path"),
        ("C:\\six", "path"),
        ("six-1.17.0-py2.py3-none-any.whl", "wheel that is no file of the job"),
        ("six @ file:///tmp/six.whl", "path"),
        ("six @ ./six.whl", "path"),
        ("six==${VERSION}", "environment"),
        ("six @ https://${PASSWORD}@example.com/six.whl", "environment"),
        ("six six", "not a requirement"),
        ("six=1.0", "not a requirement"),
        ("{{ packages }}", "not a requirement"),
    ],
)
@pytest.mark.parametrize("allow_urls", [False, True])
def test_other_lines_are_always_refused(line, because, allow_urls):
    with pytest.raises(InvalidJob, match=because) as caught:
        check_requirements(f"numpy\n\n{line}\n", allow_urls)
    assert "requirements.txt, line 3" in str(caught.value)
    assert caught.value.field == "requirements"


@pytest.mark.parametrize(
    "line", ["git+https://example.com/six", "https://example.com/six.whl", "six @ https://example.com/s.whl"]
)
def test_addresses_are_refused_unless_the_server_allows_them(line):
    with pytest.raises(InvalidJob, match="--allow-requirement-urls"):
        check_requirements(line)
    check_requirements(line, allow_urls=True)


@pytest.mark.parametrize(
    "line",
    [
        "--index-url https://user:s3cr3t@example.com/simple",
        "--index-url=https://user:s3cr3t@example.com/simple",
        "--index-url\thttps://s3cr3t@example.com/simple",
        "--extra-index-url=https://user:s3cr3t@example.com/simple",
        "--find-links https://example.com/packages?token=s3cr3t",
        "-i https://user:s3cr3t@example.com/simple",
        "-ihttps://user:s3cr3t@example.com/simple",
        "-f=https://user:s3cr3t@example.com/packages",
        "--proxy user:s3cr3t@proxy:3128",
        "-e git+https://user:s3cr3t@example.com/six",
        "six --index-url=https://user:s3cr3t@example.com/simple",
        "six==1.0 -i https://user:s3cr3t@example.com/simple",
        "six \\\n  --extra-index-url \\\n  https://user:s3cr3t@example.com/simple",
        "git+https://user:s3cr3t@example.com/six@v1",
        "git+https://s3cr3t@example.com/six",
        "six @ git+https://user:s3cr3t@example.com/six",
        "six @ https://example.com/six.whl?X-Amz-Signature=s3cr3t",
        "https://user:s3cr3t/more@example.com/six.whl",
        "https://user:s3cr3t@more@example.com/six.whl",
        "https//user:s3cr3t@example.com/six.whl",
        "user:s3cr3t@example.com/six.whl",
        "six six @ https://user:s3cr3t@example.com/six.whl",
        "\u2014index-url https://user:s3cr3t@example.com/simple",
    ],
)
def test_a_refused_line_does_not_show_its_secret(line):
    with pytest.raises(InvalidJob) as caught:
        check_requirements(f"numpy\n{line}")
    assert "line 2: '" in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize("line", ["-r other.txt", "git+https://example.com/six@main", "six six", "--no-deps"])
def test_a_refused_line_without_a_secret_is_shown_whole(line):
    with pytest.raises(InvalidJob, match=f"line 2: {re.escape(repr(line))} is"):
        check_requirements(f"numpy\n{line}")


def test_an_option_on_a_continued_line_is_found_where_the_line_begins():
    with pytest.raises(InvalidJob, match="line 2"):
        check_requirements("six\nnumpy \\\n  --index-url=x")


@given(st.text(max_size=200))
def test_any_text_is_accepted_or_refused_in_one_sentence(text):
    said = ""
    try:
        check_requirements(text)
    except InvalidJob as error:
        said = str(error)
    assert "\n" not in said
    assert said == "" or said.endswith(".")


INSTALLS = Installs(
    pythons=("3.11.7", "3.8.18", "2.7.18"),
    indexes={"pytorch": "https://download.pytorch.org/whl/cpu", "wheels": "/srv/wheels"},
    own=frozenset({"https://packages.example.com/simple"}),
)


@pytest.mark.parametrize(
    ("line", "use", "named"),
    [
        ("--extra-index-url pytorch", EXTRA, ["pytorch"]),
        ("--extra-index-url=https://download.pytorch.org/whl/cpu", EXTRA, ["pytorch"]),
        ("--extra-index-url \thttps://Download.PyTorch.org:443/whl/cpu/  # the small one", EXTRA, ["pytorch"]),
        ("--index pytorch", EXTRA, ["pytorch"]),
        ("-i pytorch", DEFAULT, ["pytorch"]),
        ("-ihttps://download.pytorch.org/whl/cpu", DEFAULT, ["pytorch"]),
        ("--index-url https://download.pytorch.org/whl/cpu", DEFAULT, ["pytorch"]),
        ("--find-links wheels", LINKS, ["wheels"]),
        ("-f /srv/wheels", LINKS, ["wheels"]),
        ("--index-url https://packages.example.com/simple/", DEFAULT, []),
        ("--extra-index-url https://packages.example.com/simple", EXTRA, []),
    ],
)
def test_an_index_that_the_server_allows_is_named_by_its_name_or_its_address(line, use, named):
    text = f"six\n{line}\nnumpy\n"
    check_requirements(text, installs=INSTALLS)
    plan = InstallPlan.of(text, INSTALLS)
    assert plan.indexes[use] == named
    assert plan.lines == "six\nnumpy\n"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--extra-index-url other", "this server allows pytorch, wheels: its operator can allow another one with"),
        ("-i https://download.pytorch.org/whl/cu128", "--allow-index NAME=ADDRESS."),
        ("--find-links /srv", "names a package index"),
        ("--extra-index-url", "names no package index"),
        ("--extra-index-url a b", "names no package index"),
        ("-i https://user:s3cr3t@download.pytorch.org/whl/cpu", "with a user or a password in it"),
        ("--trusted-host pytorch", "is an option; only packages are allowed"),
        ("-c bounds.txt", "the server reads requirements.txt alone"),
        ("--only-binary", "is an option"),
        ("--no-binary --x", "is an option"),
        ("--pre x", "is an option"),
    ],
)
def test_other_indexes_and_options_are_refused(line, said):
    with pytest.raises(InvalidJob, match=re.escape(said)) as caught:
        check_requirements(f"six\n{line}\n", installs=INSTALLS)
    assert "requirements.txt, line 2: " in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


def test_without_allowed_indexes_the_sentence_says_so():
    with pytest.raises(InvalidJob, match="and this server allows none: its operator can allow another one"):
        check_requirements("--extra-index-url https://download.pytorch.org/whl/cpu")


def test_the_options_of_pip_that_change_nothing_for_others_are_kept_or_followed():
    text = "--pre\n--prefer-binary\n--require-hashes\n--only-binary :all:\n--no-binary=six, numpy\n--no-index\nsix\n"
    check_requirements(text, installs=INSTALLS)
    plan = InstallPlan.of(text, INSTALLS)
    assert plan.lines == "--only-binary :all:\n--no-binary=six, numpy\n--no-index\nsix\n"
    assert (plan.options, plan.prereleases) == (["--require-hashes"], True)


def test_directions_in_comments():
    text = "# jobapi: exact\n#jobapi: constraint  numpy<2\n# jobapi: requires-python >=3.9\n# jobapi: exactly\nsix\n"
    check_requirements(text, installs=INSTALLS)
    plan = InstallPlan.of(text, INSTALLS)
    assert (plan.options, plan.constraints, plan.lines) == (["--no-deps"], "numpy<2\n", text)


@pytest.mark.parametrize(
    ("direction", "said"),
    [
        ("requires-python >=3.12", "need Python >=3.12 (requires-python), and this server has 3.11.7, 3.8.18, 2.7.18"),
        ("requires-python <2", "name such a Python in the server's --python"),
        ("requires-python 3.11", "is no specifier; write it as '>=3.11'"),
        ("constraint ./x", "which is a path"),
        ("constraint -r x", "which is an option"),
        ("constraint a @ https://user:s3cr3t@x/y", "which is an address"),
    ],
)
def test_directions_that_cannot_be_followed_are_refused(direction, said):
    with pytest.raises(InvalidJob, match=re.escape(said)) as caught:
        check_requirements(f"# jobapi: {direction}\nsix\n", installs=INSTALLS)
    assert "s3cr3t" not in str(caught.value)
    assert caught.value.field == "requirements"


def test_two_requirements_of_a_python_must_both_hold():
    text = "# jobapi: requires-python >=3.9\n# jobapi: requires-python <3.11\n"
    with pytest.raises(InvalidJob, match=r"need Python >=3\.9 and <3\.11"):
        check_requirements(text, installs=INSTALLS)
    check_requirements(text)


def test_a_wheel_of_the_job_is_installed_from_where_it_is():
    text = "six\n./a-1.0-py3-none-any.whl\nd/b_c-2.0-py3-none-any.whl[x]; python_version > '3'\n"
    files = {"a-1.0-py3-none-any.whl", "d/b_c-2.0-py3-none-any.whl"}
    check_requirements(text, installs=INSTALLS, files=files)
    assert with_wheels(text, Path("/srv/my work")) == (
        (
            "six\na @ file:///srv/my%20work/a-1.0-py3-none-any.whl\n"
            "b-c[x] @ file:///srv/my%20work/d/b_c-2.0-py3-none-any.whl ; python_version > '3'\n"
        ),
        ["a-1.0-py3-none-any.whl", "d/b_c-2.0-py3-none-any.whl"],
    )
    assert with_wheels("six\n", Path("/srv")) == ("six\n", [])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("./gone-1.0-py3-none-any.whl", "is a wheel that is no file of the job: upload it under that name"),
        ("./ours.whl", "is not named as wheels are"),
        ("../a-1.0-py3-none-any.whl", "is a path"),
        ("/srv/a-1.0-py3-none-any.whl", "is a path"),
    ],
)
def test_a_wheel_that_cannot_be_installed(line, said):
    with pytest.raises(InvalidJob, match=said):
        check_requirements(f"six\n{line}\n", installs=INSTALLS, files={"ours.whl", "a-1.0-py3-none-any.whl"})
