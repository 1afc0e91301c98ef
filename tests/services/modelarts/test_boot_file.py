# SPDX-License-Identifier: Apache-2.0
"""The boot file as a container of ModelArts starts it, with local directories as v2 has them."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_jobapi.services.modelarts import boot, boot_checkpoints, boot_work_folder
from airflow_provider_jobapi.training import checkpoint_formats, checkpoint_rules, pip_directions
from tests.harness.model_folders import MODEL_FOLDERS, PRELUDE
from tests.harness.packages import write_wheel
from tests.harness.python import installed

MODEL = """
import os, sys
folder = os.environ["MODEL_DIR"]
os.makedirs(os.path.join(folder, "variables"))
open(os.path.join(folder, "saved_model.pb"), "wb").write(b"graph")
open(os.path.join(folder, "variables", "variables.index"), "wb").write(b"index")
"""

ENVIRON = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
"""As a container has it: Python leaves compiled files beside the code, Python 2.7 in the folder itself."""


class Container:
    """The directories of a node."""

    def __init__(self, home: Path, python: str = sys.executable) -> None:
        self.code, self.data, self.output = home / "code dir", home / "data", home / "output"
        self.python = python
        for folder in (self.code, self.data, self.output):
            folder.mkdir()
        shutil.copyfile(boot.__file__, self.code / "modelarts_boot.py")
        for module in (boot_checkpoints, boot_work_folder, checkpoint_formats, checkpoint_rules, pip_directions):
            shutil.copy(module.__file__, self.code)
        (self.data / ".keep").touch()

    def start(self, script: str, /, *arguments: str, environ: dict[str, str] | None = None, **job: Any) -> Any:
        (self.code / "train.py").write_text(script)
        known = {"id": "the-id", "script": "train.py", "env": {}, "seconds": None, "requirements": ""}
        (self.code / boot.JOB).write_text(json.dumps(known | job))
        places = [f"--data_url={self.data}", f"--train_url={self.output}"]
        return subprocess.Popen(
            [self.python, str(self.code / "modelarts_boot.py"), *places, *arguments],
            cwd=self.code.parent,
            env=ENVIRON | {"TMPDIR": str(self.code.parent)} | (environ or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, script: str, /, *arguments: str, **job: Any) -> tuple[int, str]:
        process = self.start(script, *arguments, **job)
        printed, _ = process.communicate(timeout=60)
        return process.returncode, printed

    def kept(self) -> list[str]:
        return sorted(str(path.relative_to(self.output)) for path in self.output.rglob("*") if path.is_file())


@pytest.fixture
def container(tmp_path: Path) -> Container:
    return Container(tmp_path)


PYTHONS = [sys.executable, *(str(found) for version in ("2.7", "3.6") if (found := installed(version)))]
"""That of the tests, and the versions that engines have, where they are installed here."""


@pytest.mark.parametrize("python", PYTHONS)
def test_environment_of_a_script_and_its_model(tmp_path: Path, python: str) -> None:
    container = Container(tmp_path, python)
    (container.data / "deep").mkdir()
    (container.data / "deep" / "rows.csv").write_text("1,2")
    script = (
        MODEL
        + "print(open('deep/rows.csv').read())\nprint(sys.argv[1:])\nprint(os.environ['Test_Data'])\n"
        + "print(os.environ['JOB_ID'])\nprint(os.listdir('.').count('.keep'))\n"
    )
    arguments = ["--a", "b c"]
    code, printed = container.run(
        script, "--test_data=x y", "--num_gpus=0", env={"Test_Data": "x y"}, arguments=arguments
    )
    assert (code, printed.splitlines()) == (0, ["1,2", str(["--test_data=x y", *arguments]), "x y", "the-id", "0"])
    assert container.kept() == ["jobapi_files.json", "model/saved_model.pb", "model/variables/variables.index"]
    listed = {each["path"]: each for each in json.loads((container.output / boot.FILES).read_text())["files"]}
    assert listed["model/saved_model.pb"]["sha256"] == hashlib.sha256(b"graph").hexdigest()
    assert listed["model/variables/variables.index"]["size"] == 5
    assert listed["model/saved_model.pb"]["modified"] > 10**9


def test_a_data_file_that_has_the_name_of_the_model_folder(container: Container) -> None:
    (container.data / "model").write_text("weights")
    assert container.run(MODEL + "print(open('model').read())") == (0, "weights\n")
    assert "model_/saved_model.pb" in container.kept()


FOLDER = {
    "main.py": "import nets.run\n",
    "nets/__init__.py": "",
    "nets/layers.py": "WIDTH = 3\n",
    "nets/run.py": (
        "import os, sys\nfrom . import layers\nprint(layers.WIDTH)\nprint(sys.argv[1:])\n"
        "print(open('config.yaml').read())\nprint(os.path.islink(layers.__file__))\nprint(os.environ['MODEL_DIR'].split(os.sep)[-1])\n"
    ),
    "model/__init__.py": "",
    "config.yaml": "rate: 1",
}


@pytest.mark.parametrize("program", [["main.py"], ["-m", "nets.run"]])
@pytest.mark.parametrize("python", PYTHONS)
def test_a_folder_of_code(tmp_path: Path, python: str, program: list[str]) -> None:
    container = Container(tmp_path, python)
    for path, text in FOLDER.items():
        (container.data / path).parent.mkdir(exist_ok=True)
        (container.data / path).write_text(text)
    (container.data / "rows.csv").write_text("1,2")
    code, printed = container.run(
        "", "--a=1", script="", program=program, code=sorted(FOLDER), arguments=["--layers", "64", "32"], env={}
    )
    assert (code, printed.splitlines()) == (
        0,
        ["3", str(["--a=1", "--layers", "64", "32"]), "rate: 1", "False", "model_"],
    )
    assert container.kept() == ["jobapi_files.json"]
    assert json.loads((container.output / boot.FILES).read_text())["model"] == "model_"


def test_modules_in_a_folder_of_the_path(container: Container) -> None:
    (container.data / "src").mkdir()
    (container.data / "src" / "deep.py").write_text("import beside\nprint('deep', beside.X)\n")
    (container.data.parent / "beside.py").write_text("X = 5\n")
    job = {"program": ["-m", "deep"], "script": "", "code": ["src/deep.py"], "env": {"PYTHONPATH": "src"}}
    process = container.start("", environ={"PYTHONPATH": str(container.data.parent)}, **job)
    assert process.communicate(timeout=60)[0] == "deep 5\n"


def test_a_variable_is_no_argument(container: Container) -> None:
    script = "import os, sys\nprint(sys.argv[1:], os.environ['NUM_GPUS'])\n"
    code, printed = container.run(script, "--num_gpus=0", env={"NUM_GPUS": "2"}, named=[])
    assert (code, printed) == (0, "[] 2\n")


def test_a_failed_script_keeps_no_model(container: Container) -> None:
    assert container.run(MODEL + "sys.exit(3)") == (3, "")
    assert container.kept() == []


def test_no_model_is_no_error(container: Container) -> None:
    assert container.run("print('hello')") == (0, "hello\n")
    assert json.loads((container.output / boot.FILES).read_text()) == {"files": [], "model": "model"}


@pytest.mark.parametrize("python", PYTHONS)
def test_files_that_are_lost_are_named(tmp_path: Path, python: str) -> None:
    container = Container(tmp_path, python)
    (container.data / "rows.csv").write_text("1,2")
    code, printed = container.run(
        MODEL
        + "import io\nopen('a.log', 'w').write('x')\nos.makedirs('model2')\n"
        + "os.makedirs('weights')\nopen('weights/last.ckpt', 'wb').write(b'12345')\n"
    )
    assert (code, container.kept()) == (
        0,
        ["jobapi_files.json", "model/saved_model.pb", "model/variables/variables.index"],
    )
    assert printed == (
        "The script's files outside of MODEL_DIR are lost with this machine: 2 files, 6 bytes, such as "
        '"a.log". Write what you need into MODEL_DIR, or copy it to OBS in the script.\n'
    )


@pytest.mark.parametrize("python", PYTHONS)
def test_all_of_the_model_directory_is_kept(tmp_path: Path, python: str) -> None:
    container = Container(tmp_path, python)
    (container.data / "model").mkdir()
    (container.data / "model" / "start.ckpt").write_text("weights")
    code, printed = container.run(
        "import os\nfolder = os.environ['MODEL_DIR']\nos.makedirs(os.path.join(folder, 'a', '.b'))\n"
        "for name in ('net.onnx', 'a/words.txt', 'a/.b/hidden'):\n"
        "    open(os.path.join(folder, name), 'w').write(name)\n"
        "os.symlink('net.onnx', os.path.join(folder, 'best.onnx'))\n"
        "os.symlink(os.path.join(folder, 'a'), os.path.join(folder, 'again'))\n"
        "os.mkdir('export')\nopen('export/saved_model.pb', 'w').close()\n"
    )
    assert (code, printed) == (0, "")
    expected = ["a/.b/hidden", "a/words.txt", "again/.b/hidden", "again/words.txt", "best.onnx", "net.onnx"]
    assert container.kept() == ["export/saved_model.pb", "jobapi_files.json", *(f"model/{path}" for path in expected)]
    assert (container.output / "model" / "best.onnx").read_text() == "net.onnx"
    told = json.loads((container.output / boot.FILES).read_text())
    listed = {each["path"]: each for each in told["files"]}
    assert base64.b64decode(listed["model/best.onnx"]["head"]) == b"net.onnx"
    assert (told["model"], listed["model/best.onnx"]["size"]) == ("model", 8)


def test_a_file_in_place_of_the_model_directory_is_kept(container: Container) -> None:
    assert container.run(
        "import os\nos.rmdir(os.environ['MODEL_DIR'])\nopen(os.environ['MODEL_DIR'], 'w').write('weights')"
    ) == (0, "")
    assert (container.kept(), (container.output / "model").read_text()) == (["jobapi_files.json", "model"], "weights")


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("name", MODEL_FOLDERS)
def test_what_becomes_of_a_model_folder(tmp_path: Path, name: str, python: str) -> None:
    container, case = Container(tmp_path, python), MODEL_FOLDERS[name]
    code, printed = container.run(PRELUDE + case.script)
    if case.refused:
        path, how = case.refused
        said = f"""The job succeeded, but "model/{path}" in MODEL_DIR {how}; a model can have files only, """
        assert (code, printed) == (boot.NOT_KEPT, f"{said}so copy the file there, or remove it.\n")
        assert [path for path in container.kept() if boot_checkpoints.FOLDER not in path] == []
        return
    assert code == 0, printed
    kept = container.output / "model"
    found = {str(each.relative_to(kept)): each.read_text() for each in kept.rglob("*") if each.is_file()}
    assert found == case.kept
    if case.left_out:
        path, how = case.left_out
        assert f"""Left out of the model, since it has no bytes: "model/{path}" {how}.\n""" in printed
    else:
        assert "Left out" not in printed


def test_a_name_that_is_not_utf_8_cannot_be_kept(container: Container) -> None:
    made = "open(os.path.join(os.environ['MODEL_DIR'].encode(), b'\\xff'), 'w').close()"
    assert container.run("import os\n" + made) == (
        boot.NOT_KEPT,
        'The job succeeded, but "model/\\udcff" in MODEL_DIR has a name that is not UTF-8; give it another name.\n',
    )


def test_a_saved_model_beside_what_cannot_be_kept(container: Container) -> None:
    code, printed = container.run(
        "import os\nfolder = os.environ['MODEL_DIR']\nos.makedirs(folder + '/tf')\n"
        "os.symlink('/etc/hostname', folder + '/name')\nopen(folder + '/tf/saved_model.pb', 'w').close()"
    )
    assert (code, container.kept()) == (0, ["jobapi_files.json", "model/tf/saved_model.pb"])
    assert '"model/name" in MODEL_DIR is a link that leads out of the working directory' in printed
    assert "Only the SavedModel is kept.\n" in printed


def test_a_saved_model_that_cannot_be_kept_whole_is_not_kept(container: Container) -> None:
    code, printed = container.run(MODEL + "os.symlink('/etc/hostname', os.path.join(folder, 'name'))")
    assert (code, container.kept()) == (boot.NOT_KEPT, [])
    assert printed.startswith('The job succeeded, but "model/name" in the SavedModel is a link that leads out of ')


def test_a_saved_model_in_the_working_directory_beside_other_files(container: Container) -> None:
    script = "import os\nfor path in ('saved_model.pb', 'notes.txt'):\n    open(path, 'w').close()\n"
    code, printed = container.run(script + "os.mkdir('variables')\nopen('variables/x', 'w').close()")
    assert (code, container.kept()) == (0, ["jobapi_files.json", "saved_model.pb", "variables/x"])
    assert (
        "The script's files outside of MODEL_DIR are lost with this machine: 1 file, 0 bytes, such as \"notes"
        in printed
    )


def test_a_model_in_the_data_is_ignored(container: Container) -> None:
    (container.data / "old").mkdir()
    (container.data / "old" / "saved_model.pb").write_text("old")
    assert container.run(MODEL)[0] == 0
    assert "old/saved_model.pb" not in container.kept()


def test_data_below_the_model_directory(container: Container) -> None:
    (container.data / "model").mkdir()
    (container.data / "model" / "start.ckpt").write_text("weights")
    assert container.run(MODEL)[0] == 0
    assert container.kept() == ["jobapi_files.json", "model/saved_model.pb", "model/variables/variables.index"]


def test_a_script_without_a_directory_for_its_model(container: Container) -> None:
    code, _ = container.run("open('saved_model.pb', 'w').write('graph')")
    assert (code, container.kept()) == (0, ["jobapi_files.json", "saved_model.pb"])


def test_only_the_first_of_several_machines_keeps_a_model(container: Container) -> None:
    process = container.start(MODEL, environ={"VC_TASK_INDEX": "1"})
    assert process.wait(60) == 0
    process.stdout.close()
    assert container.kept() == []


def test_a_parameter_that_the_dag_calls_num_gpus_is_passed_on(container: Container) -> None:
    _, printed = container.run("import sys\nprint(sys.argv[1:])", "--num_gpus=2", env={"NUM_GPUS": "2"})
    assert printed == "['--num_gpus=2']\n"


def test_a_stop_reaches_the_script(container: Container) -> None:
    script = (
        "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
        "print('ready')\ntime.sleep(60)\n"
    )
    process = container.start(script)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 7
    process.stdout.close()


def test_a_stop_while_the_script_is_being_started_reaches_it(container: Container) -> None:
    (container.code / "train.py").write_text("import time\ntime.sleep(20)\n")
    told = {"id": "the-id", "script": "train.py", "env": {}, "seconds": None}
    starting = (
        "import os, signal, subprocess, sys\nimport modelarts_boot as boot\nstart = subprocess.Popen\n"
        "def stopped(*given, **named):\n"
        "    child = start(*given, **named)\n    os.kill(os.getpid(), signal.SIGTERM)\n    return child\n"
        f"subprocess.Popen = stopped\nsys.exit(boot._run({told!r}, '.', [], '.'))\n"
    )
    ended = subprocess.run([sys.executable, "-c", starting], cwd=container.code, check=False)
    assert ended.returncode == 128 + signal.SIGTERM


def test_exit_code_of_a_killed_script(container: Container) -> None:
    assert container.run("import os\nos.kill(os.getpid(), 9)") == (137, "")


def test_completion_time_exceeded(container: Container) -> None:
    code, printed = container.run("import time\nprint('begun')\ntime.sleep(60)", seconds=3)
    assert code == 124
    assert printed == "begun\ncompletion_time is over: the job has run for 3 s and was ended.\n"


@pytest.fixture
def with_pip(tmp_path: Path) -> Container:
    """A node whose Python has pip, as those of engines."""
    return Container(tmp_path, sys._base_executable)  # type: ignore[attr-defined]


def test_a_python_that_the_requirements_do_not_allow(with_pip: Container) -> None:
    container, version = with_pip, sys.version.split()[0]
    assert container.run("print('hello')", requires_python=">=3.8") == (0, "hello\n")
    code, printed = container.run("print('never')", requires_python=">=3.99,<4")
    assert code == 1
    assert printed.startswith(f"The requirements need Python >=3.99,<4 (requires-python), and here is {version}: ")


def test_constraints_and_a_whole_list(with_pip: Container, tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    for version in ("1.0", "2.0"):
        write_wheel(tmp_path / "wheels", "net", version=version)
    write_wheel(tmp_path / "wheels", "top", requires=["net", "gone"])
    (with_pip.code / "requirements.txt").write_text("top\nnet\n")
    pip = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": f"{tmp_path}/wheels", "PIP_TARGET": f"{tmp_path}/place"}
    process = with_pip.start(
        "print('hello')", environ=pip, requirements="requirements.txt", exact=True, constraints=["net<2"]
    )
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 0, printed
    assert sorted(path.name for path in (tmp_path / "place").glob("*.dist-info")) == [
        "net-1.0.dist-info",
        "top-1.0.dist-info",
    ]


def test_requirements_that_cannot_be_installed(container: Container) -> None:
    (container.code / "requirements.txt").write_text("no such requirement")
    code, printed = container.run("print('never')", requirements="requirements.txt")
    assert code != 0
    assert "never" not in printed


EVENTS = """
import os
os.makedirs("logs/train")
for number in (2, 1):
    open("logs/train/events.out.tfevents.%d.host" % number, "w").close()
open(os.path.join(os.environ["MODEL_DIR"] + ".txt"), "w").close()
"""


def test_the_log_says_once_that_event_files_give_no_curves(tmp_path):
    container = Container(tmp_path)
    (container.data / "old.tfevents.1").touch()
    said = (
        'Event files of TensorBoard, such as "logs/train/events.out.tfevents.1.host", are not read on ModelArts and '
        "give no curves: print the metrics, or use jobapi_metrics.\n"
    )
    assert container.run(EVENTS + "print('loss=1')\nraise SystemExit(3)") == (3, f"loss=1\n{said}")
    code, printed = container.run(EVENTS)
    assert (code, printed.count(said)) == (0, 1)


def test_event_files_among_the_data_are_no_event_files_of_the_job(tmp_path):
    container = Container(tmp_path)
    (container.data / "old.tfevents.1").touch()
    assert container.run("print('loss=1')") == (0, "loss=1\n")


SAVES = """
import json, os, sys, time
folder = os.environ["CHECKPOINT_DIR"]
print("found " + ",".join(sorted(os.listdir(folder))))
if sys.argv[-1] == "fail":
    with open(os.path.join(folder, "step-1.json"), "w") as file:
        json.dump({"at": os.path.join(folder, "step-1.json")}, file)
    open(os.path.join(folder, "step-2.json.tmp"), "w").close()
    open(os.path.join(folder, "step-2.json"), "w").write("{")
    sys.exit(3)
if sys.argv[-1] == "read":
    print("at " + json.load(open(os.path.join(folder, "step-1.json")))["at"].replace(folder, "HERE"))
"""


@pytest.mark.parametrize("python", PYTHONS)
def test_whole_checkpoints_reach_the_output_and_the_job_that_continues(tmp_path: Path, python: str) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    first = Container(tmp_path / "first", python)
    code, printed = first.run(SAVES, "fail")
    assert code == 3, printed
    folder = boot_checkpoints.FOLDER
    assert first.kept() == [f"{folder}/1.json", f"{folder}/1/step-1.json"], printed
    listed = json.loads((first.output / folder / "1.json").read_text())
    second = Container(tmp_path / "second", python)
    shutil.copytree(first.output / folder / "1", second.data / folder)
    (second.data / f"{folder}.json").write_text(json.dumps(listed | {"job_id": "the-first"}))
    code, printed = second.run(SAVES, "read")
    assert code == 0, printed
    assert "jobapi: This job continues job the-first, whose checkpoints are in CHECKPOINT_DIR (1 file)." in printed
    assert "found step-1.json" in printed
    assert "at HERE/step-1.json" in printed, "the path of the folder now"
    assert [path for path in second.kept() if folder in path] == []
    code, printed = second.run(SAVES, "again", keep_checkpoints=True)
    assert f"{folder}/1/step-1.json" in second.kept()
