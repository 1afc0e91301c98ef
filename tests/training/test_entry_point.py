# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.training.entry_point import find, package_folder, refuse_relative_imports, words_of

FILES = {"train.py", "main.py", "pkg/__init__.py", "pkg/run.py", "pkg/tool/__main__.py", "src/deep/__init__.py"} | {
    "src/deep/run.py",
    "nb.ipynb",
}


@pytest.mark.parametrize(
    ("entry_point", "words", "file"),
    [
        (None, ("train.py",), "train.py"),
        (" ", ("train.py",), "train.py"),
        ("pkg/run.py", ("pkg/run.py",), "pkg/run.py"),
        ("./main.py\n", ("main.py",), "main.py"),
        ("-m pkg.run", ("-m", "pkg.run"), "pkg/run.py"),
        ("-mpkg.run", ("-m", "pkg.run"), "pkg/run.py"),
        ("-m pkg.tool", ("-m", "pkg.tool"), "pkg/tool/__main__.py"),
        ("-m train", ("-m", "train"), "train.py"),
        ("-m torch.distributed.run", ("-m", "torch.distributed.run"), None),
    ],
)
def test_what_is_run(entry_point, words, file):
    found = find(entry_point, FILES, "source")
    assert (found.words, found.file) == (words, file)
    assert find(str(found), FILES, "source") == found


@pytest.mark.parametrize(
    ("files", "file"),
    [
        ({"main.py", "__main__.py", "a.py"}, "main.py"),
        ({"__main__.py", "a.py"}, "__main__.py"),
        ({"a.py", "__init__.py", "lib/b.py"}, "a.py"),
    ],
)
def test_the_usual_entry_points(files, file):
    assert find(None, files, "source").file == file


def test_a_module_in_a_folder_of_the_path():
    assert find("-m deep.run", FILES, "source", "lib:./src/").file == "src/deep/run.py"


@pytest.mark.parametrize(
    ("entry_point", "sentence"),
    [
        ("nb.ipynb", "is a notebook, .* `jupyter nbconvert --to script nb.ipynb`"),
        ("run.py", r"'run.py' is not among the files of source; did you mean pkg/run.py\?"),
        ("gone.py", "is not among the files of source: name one that is there and that no ignore file excludes"),
        ("-m pkg", "is a package without a __main__.py in source: name a module of it"),
        ("-m pkg.gone", "there is neither pkg/gone.py nor pkg/gone/__main__.py"),
        ("-m deep.run", 'in the folder src of source, where Python does not look: add env_vars={"PYTHONPATH": "src"}'),
        ("/etc/train.py", "it is the path of a .py file in the folder"),
        ("../train.py", "it is the path of a .py file in the folder"),
        ("train.sh", "it is the path of a .py file in the folder"),
        ("pkg.run:main", "it is the path of a .py file in the folder"),
        ("python3 train.py", "it is the path of a .py file in the folder"),
        ("train.py --epochs 3", "Its arguments belong in arguments"),
        ("-m pkg.run --epochs 3", "Its arguments belong in arguments"),
    ],
)
def test_what_cannot_be_run(entry_point, sentence):
    with pytest.raises(InvalidJob, match=sentence) as caught:
        find(entry_point, FILES, "source")
    assert caught.value.field == "entry_point"


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"a.py", "b.py"}, "has no train.py, main.py or __main__.py, and the folder has a.py, b.py"),
        ({f"{n}.py" for n in range(9)}, "has .* the folder has 0.py, 1.py, 2.py, 3.py, 4.py and 4 more"),
        ({"config.yaml"}, "has no train.py, main.py or __main__.py. Name the file to run"),
        ({"My net.ipynb"}, "has no script, but the notebook My net.ipynb: .* --to script 'My net.ipynb'`"),
    ],
)
def test_no_usual_entry_point(files, sentence):
    with pytest.raises(InvalidJob, match=f"^entry_point is missing: source {sentence}"):
        find(None, files, "source")


@pytest.mark.parametrize(
    ("file", "advice"),
    [
        ("pkg/run.py", "give entry_point='-m pkg.run'"),
        ("train.py", "give entry_point='-m project.train'"),
        ("pkg/__main__.py", "give entry_point='-m pkg'"),
        ("my-pkg/run.py", "give the folders names that Python can import"),
    ],
)
def test_a_file_with_relative_imports_is_run_as_a_module(file, advice):
    entry = find(file, {file}, "source")
    with pytest.raises(InvalidJob, match=f"has a relative import in line 2, .*{advice}"):
        refuse_relative_imports(entry, "import os\nfrom .model import Net\n", "project")


@pytest.mark.parametrize(
    "text",
    ["try:\n    from .model import x\nexcept ImportError:\n    from model import x\n", "from a import b", "print 1"],
)
def test_other_imports_are_not_judged(text):
    refuse_relative_imports(find("train.py", {"train.py"}, "source"), text, "project")
    refuse_relative_imports(find("-m train", {"train.py"}, "source"), "from . import x", "project")


@pytest.mark.parametrize(
    ("entry_point", "files", "below"),
    [
        ("-m project.train", {"train.py", "__init__.py"}, "project/"),
        ("-m project", {"__main__.py"}, "project/"),
        ("-m project.train", {"project/train.py", "train.py"}, ""),
        ("-m project.gone", {"train.py"}, ""),
        ("-m other.train", {"train.py"}, ""),
        ("train.py", {"train.py"}, ""),
        (None, {"train.py"}, ""),
    ],
)
def test_a_folder_that_is_a_package_itself_lies_below_the_working_directory(entry_point, files, below):
    assert package_folder(entry_point, files, "project") == below


def test_the_form_is_checked_without_the_files():
    assert words_of("-m any.module") == ("-m", "any.module")
    assert words_of("any/file.py") == ("any/file.py",)
