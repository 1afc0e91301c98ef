# SPDX-License-Identifier: Apache-2.0
"""A training job as a TrainingJob object: every parameter, every field, every limit."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import botocore
import pytest

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.services.files.sources import measure_all
from airflow_provider_jobapi.services.sagemaker_ack import limits, names, schema, script_mode, spec, start, submission
from airflow_provider_jobapi.services.sagemaker_ack.options import OWN_FIELDS
from airflow_provider_jobapi.training.job import TrainingJob, data_version
from tests.harness.packages import write_wheel
from tests.services.sagemaker_ack.building import BARE, IMAGE, JOB_ID, ROLE, build, connection, job


def test_a_whole_object() -> None:
    made = build(job(env={"EPOCHS": 5}, env_vars={"Mode": "x"}, completion_time="20h"), size=40 * 10**9)
    assert made["apiVersion"] == "sagemaker.services.k8s.aws/v1alpha1"
    assert made["metadata"] == {
        "name": f"training-{JOB_ID}",
        "namespace": "train",
        "labels": {"app.kubernetes.io/managed-by": "airflow-provider-jobapi", names.JOB_ID_LABEL: JOB_ID},
        "annotations": {"services.k8s.aws/region": "eu-west-1", names.DIGEST_ANNOTATION: "d" * 64},
    }
    own = {
        "sagemaker_program": '"jobapi_start.py"',
        "sagemaker_submit_directory": '"s3://b/c/sourcedir.tar.gz"',
        "sagemaker_region": '"eu-west-1"',
        "sagemaker_job_name": f'"train-{JOB_ID}"',
        "sagemaker_container_log_level": "20",
    }
    source = {"s3DataType": "S3Prefix", "s3URI": "s3://b/d/", "s3DataDistributionType": "FullyReplicated"}
    assert made["spec"] == {
        "trainingJobName": f"train-{JOB_ID}",
        "roleARN": ROLE,
        "algorithmSpecification": {"trainingImage": IMAGE, "trainingInputMode": "File"},
        "hyperParameters": {"epochs": "5", **own},
        "environment": {"EPOCHS": "5", "Mode": "x", "JOB_ID": JOB_ID, "MODEL_DIR": "/opt/ml/model"},
        "inputDataConfig": [{"channelName": "training", "dataSource": {"s3DataSource": source}}],
        "outputDataConfig": {"s3OutputPath": "s3://b/o"},
        "resourceConfig": {"instanceType": "ml.m5.large", "instanceCount": 1, "volumeSizeInGB": 110},
        "stoppingCondition": {"maxRuntimeInSeconds": 72_000},
    }


def test_names_fit_the_api_and_kubernetes() -> None:
    for given in ("train", "a" * 100, "1.x_y--z", "x" * 25 + "." * 20, "9_"):
        name = names.training_job_name(given, JOB_ID)
        assert re.fullmatch(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}", name), name
        assert len(name) <= 63
        assert name.endswith(JOB_ID)
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", names.object_name(JOB_ID))


def test_the_image() -> None:
    own = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/mine:1"
    assert build(job(image=own))["spec"]["algorithmSpecification"]["trainingImage"] == own
    with pytest.raises(InvalidJob, match="SageMaker takes images from ECR only: name one such as 763104351884"):
        build(job(), training_image=None)
    with pytest.raises(InvalidJob, match="from ECR only"):
        build(job(script=None), BARE)
    options = {"algorithmSpecification": {"algorithmName": "mine"}}
    made = build(job(script=None, service_options=options), BARE)["spec"]["algorithmSpecification"]
    assert made == {"algorithmName": "mine", "trainingInputMode": "File"}


def test_metric_definitions() -> None:
    definitions = (
        {"name": "loss", "regex": r"loss=([0-9.]+)"},
        {"name": "acc", "regex": r"(?P<step>\d+) acc=(?P<value>\S+)"},
        {"name": "long", "regex": "(" + "x" * 500 + ")"},
    )
    made = build(job(metric_definitions=definitions))["spec"]["algorithmSpecification"]
    assert made["metricDefinitions"] == [{"name": "loss", "regex": r"loss=([0-9.]+)"}]


def test_machines() -> None:
    def machines(given: TrainingJob, **known: Any) -> dict[str, Any]:
        return dict(build(given, **known)["spec"]["resourceConfig"])

    assert machines(job(nodes=3, resources={"gpus": 1}))["instanceType"] == "ml.g4dn.xlarge"
    assert machines(job(nodes=3))["instanceCount"] == 3
    assert machines(job(), instance_type="ml.c7i.large")["instanceType"] == "ml.c7i.large"
    assert machines(job(service_options={"instance_type": "ml.p2.xlarge", "volume_size": 7})) == {
        "instanceType": "ml.p2.xlarge", "instanceCount": 1, "volumeSizeInGB": 7,
    }  # fmt: skip
    groups = [{"instanceGroupName": "a", "instanceType": "ml.m5.large", "instanceCount": 2},
              {"instanceGroupName": "b", "instanceType": "ml.g5.xlarge", "instanceCount": 3}]  # fmt: skip
    grouped = build(job(service_options={"resourceConfig": {"instanceGroups": groups}}))["spec"]
    assert grouped["resourceConfig"] == {"instanceGroups": groups, "volumeSizeInGB": 30}
    assert (spec.instances(grouped), spec.instances(build(job(nodes=3))["spec"])) == (5, 3)
    with pytest.raises(InvalidJob, match=r"nodes is 2, and service_options has resourceConfig\.instanceCount = 3"):
        machines(job(nodes=2, service_options={"resourceConfig": {"instanceCount": 3}}))


def test_spot_jobs_may_wait() -> None:
    made = build(job(completion_time="1h", service_options={"enableManagedSpotTraining": True}))["spec"]
    assert made["stoppingCondition"] == {"maxRuntimeInSeconds": 3_600, "maxWaitTimeInSeconds": 90_000}


def test_channels_of_an_image_are_its_folders() -> None:
    image = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/xgboost:1"
    given = job(script=None, image=image, data={"train/a.csv": "1", "train/x/b.csv": "2", "test/a.csv": "3", "c": "4"})
    channels = spec.channels(given, measure_all(given.files()))
    assert channels == {"train/a.csv": "train", "train/x/b.csv": "train", "test/a.csv": "test", "c": "training"}
    script = job(data={"train/a.csv": "1"}, source={})
    assert spec.channels(script, measure_all(script.files())) == {"train/a.csv": "training"}


def test_an_option_completes_a_channel() -> None:
    own = {"channelName": "own", "inputMode": "Pipe", "dataSource": {"s3DataSource": {"s3URI": "s3://b/own/"}}}
    more = [{"channelName": "training", "contentType": "text/csv"}, own]
    made = build(job(service_options={"inputDataConfig": more}))["spec"]["inputDataConfig"]
    assert [each["channelName"] for each in made] == ["training", "own"]
    assert made[0]["contentType"] == "text/csv"
    assert made[0]["dataSource"]["s3DataSource"]["s3URI"] == "s3://b/d/"


def example(node: Any, name: str = "") -> Any:
    """A value for each field of a schema."""
    texts = {"fileSystemID": "fs-0123abcd", "s3URI": "s3://b/k", "s3OutputPath": "s3://b/k"}
    numbers = {"maxPendingTimeInSeconds": 7_200}
    kinds = {"string": texts.get(name, "text"), "integer": numbers.get(name, 1), "boolean": False}
    if node["type"] == "object":
        inner = node.get("properties", {"name": node.get("additionalProperties")})
        return {name: example(each, name) for name, each in inner.items() if each}
    return [example(node["items"])] if node["type"] == "array" else kinds[node["type"]]


def complete(value: dict[str, Any]) -> None:
    """Add what SageMaker wants beside a field."""
    for channel in value.get("inputDataConfig", []):
        channel.update({"channelName": "own", "dataSource": {"x": "x"}} | channel)
    for group in value.get("resourceConfig", {}).get("instanceGroups", []):
        group.update({"instanceGroupName": "text", "instanceType": "ml.m5.large", "instanceCount": 1})
    for metric in value.get("algorithmSpecification", {}).get("metricDefinitions", []):
        metric.update({"name": "text", "regex": "text"} | metric)
    for tag in value.get("tags", []):
        tag.setdefault("key", "text")
    if "vpcConfig" in value:
        value["vpcConfig"] = {"subnets": ["x"], "securityGroupIDs": ["x"]} | value["vpcConfig"]
    if "roleARN" in value:
        value["roleARN"] = "arn:aws-cn:iam::123456789012:role/service-role/own"


@pytest.mark.parametrize("path", schema.fields())
def test_every_field_can_be_given(path: str) -> None:
    """Each field reaches the object as it was given, alone beside what this provider sets."""
    if path in OWN_FIELDS:
        return
    node, value = schema.spec_schema(), None
    parts = path.split(".")
    for part in parts:
        node = node["properties"][part.removesuffix("[]")]
        node = node["items"] if part.endswith("[]") else node
    value = example(node, parts[-1])
    for part in reversed(parts):
        value = {part.removesuffix("[]"): [value] if part.endswith("[]") else value}
    complete(value)
    if path == "stoppingCondition.maxWaitTimeInSeconds":
        value = {"stoppingCondition": {"maxWaitTimeInSeconds": 100_000}, "enableManagedSpotTraining": True}
    refused = {"algorithmSpecification": "either an image", "resourceConfig": "either an instanceType"}
    if path in {*refused, "stoppingCondition"}:
        with pytest.raises(InvalidJob, match=refused.get(path, "only spot jobs")):
            build(job(service_options=value))
        return
    made = build(job(service_options=value), spec.Places(output="s3://b/o", code="s3://b/c"))["spec"]
    assert schema.dropped(value, made) == ()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"env": {f"n{i}": 1 for i in range(96)}}, "hyperParameters has 101 entries, and SageMaker allows 100"),
        ({"env": {"long": "x" * 257}}, "The hyperparameter 'long' has a value of 257 characters"),
        ({"service_options": {"hyperParameters": {"x" * 257: "1"}}}, "has a name of 257 characters"),
        ({"env": {"sagemaker_program": "x"}}, "env has 'sagemaker_program', which this provider sets itself"),
        ({"env_vars": {f"N{i}": 1 for i in range(99)}}, "environment has 101 entries, and SageMaker allows 100"),
        ({"env_vars": {"A.B": 1}}, "The environment variable 'A.B' has a name that SageMaker does not allow"),
        ({"env_vars": {"AB": "x" * 513}}, "The environment variable 'AB' has 513 characters, and SageMaker allows 512"),
        ({"completion_time": "29d"}, "completion_time is 2,505,600 seconds, and SageMaker allows at most 2,419,200"),
        ({"service_options": {"retryStrategy": {"maximumRetryAttempts": 31}}}, "Attempts is 31: it is 1 to 30"),
        ({"service_options": {"stoppingCondition": {"maxWaitTimeInSeconds": 9}}}, "which only spot jobs have"),
        ({"service_options": {"tags": [{"key": f"k{i}"} for i in range(51)]}}, "tags has 51 entries, and SageMaker"),
        ({"service_options": {"tags": [{"key": "a"}, {"key": "k" * 129}]}}, "tags[1] is a tag that SageMaker does not"),
        ({"service_options": {"tags": [{"key": "a", "value": "v" * 257}]}}, "a value has at most 256"),
        ({"service_options": {"tags": [{"key": "AWS:mine"}]}}, "begins with no 'aws:'"),
        ({"service_options": {"tags": [{"key": "a"}, {"key": "a"}]}}, "tags has 'a' twice"),
        ({"service_options": {"inputDataConfig": [{"channelName": "a b"}]}}, "The channel 'a b' has a name"),
        ({"service_options": {"inputDataConfig": [{"channelName": "a"}] * 2}}, "inputDataConfig has 'a' twice"),
        ({"service_options": {"inputDataConfig": [{"channelName": "a"}]}}, "channel 'a' has no data: set"),
        ({"service_options": {"inputDataConfig": [{"contentType": "a"}]}}, "has no channelName: add it"),
        ({"service_options": {"roleARN": "training"}}, "has roleARN = 'training': it is an ARN such as"),
        ({"service_options": {"resourceConfig": {"instanceCount": 0}}}, "instanceCount below 1"),
        ({"service_options": {"resourceConfig": {"instanceGroups": [{"instanceCount": 1}]}}}, "no instanceGroupName"),
        ({"service_options": {"outputDataConfig": {"s3OutputPath": "/b"}}}, "s3OutputPath = '/b': it is a place in S3"),
        ({"service_options": {"checkpointConfig": {"s3URI": "b/c"}}}, "checkpointConfig.s3URI = 'b/c': it is a place"),
        ({"service_options": {"tags": [{"value": "a"}]}}, "an entry of tags has no key: add it."),
        ({"service_options": {"vpcConfig": {"subnets": ["a"]}}}, "vpcConfig has no securityGroupIDs: add it."),
        ({"service_options": {"debugHookConfig": {"hookParameters": {"a": "x" * 1024**2}}}}, "of them in debug"),
        ({"service_options": {"resourceConfig": {"keepAlivePeriodInSeconds": 30_000}}}, "it is at most 21,600"),
        ({"service_options": {"algorithmSpecification": {"trainingImage": "x" * 256}}}, "image has 256 characters"),
        ({"service_options": {"algorithmSpecification": {"trainingImage": "a", "algorithmName": "b"}}}, "either an"),
        ({"service_options": {"trainingJobName": "a"}}, "trainingJobName, by which this provider finds the job again"),
        ({"service_options": {"stoppingCondition": None}}, "service_options removes stoppingCondition, which every"),
        ({"service_options": {"roleARN": None}}, "set role_arn in the connection, or roleARN in service_options"),
        ({"service_options": {"instance_type": "m5.large"}}, "instance_type = 'm5.large'; it is a type such as"),
        ({"service_options": {"volume_size": 0}}, "volume_size = 0; it is a whole number of GB"),
        ({"service_options": {"accept_max_runtime": "maybe"}}, "accept_max_runtime = 'maybe'; it is true or false"),
    ],
)  # fmt: skip
def test_limits(more: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidJob, match=re.escape(words)):
        build(job(**more))


def test_limits_are_those_of_the_api() -> None:
    """botocore's model allows longer values of hyperparameters than the documents do; the documents are kept."""
    packed = Path(botocore.__file__).parent / "data" / "sagemaker" / "2017-07-24" / "service-2.json.gz"
    shapes = json.loads(gzip.decompress(packed.read_bytes()))["shapes"]
    assert shapes["HyperParameters"]["max"] == limits.MOST_HYPERPARAMETERS
    assert shapes["HyperParameterKey"]["max"] == limits.LONGEST_HYPERPARAMETER
    assert shapes["TrainingEnvironmentMap"]["max"] == limits.MOST_VARIABLES
    assert shapes["TrainingEnvironmentValue"]["max"] == limits.LONGEST_VARIABLE
    assert shapes["InputDataConfig"]["max"] == limits.MOST_CHANNELS
    assert shapes["TagList"]["max"] == limits.MOST_TAGS
    assert shapes["TagKey"]["max"] == limits.LONGEST_TAG_KEY
    assert shapes["TagValue"]["max"] == limits.LONGEST_TAG_VALUE
    assert shapes["MetricDefinitionList"]["max"] == limits.MOST_METRICS
    assert shapes["MetricName"]["max"] == limits.LONGEST_METRIC_NAME
    assert shapes["MetricRegex"]["max"] == limits.LONGEST_METRIC_REGEX
    assert shapes["AlgorithmImage"]["max"] == limits.LONGEST_IMAGE
    assert shapes["KeepAlivePeriodInSeconds"]["max"] == limits.LONGEST_KEEP_ALIVE
    assert shapes["MaximumRetryAttempts"]["max"] == limits.MOST_RETRIES
    assert shapes["TrainingJobName"]["max"] == names.LONGEST_NAME


def test_options_can_remove_and_replace() -> None:
    options = {"hyperParameters": {"sagemaker_region": None, "depth": 3}, "checkpointConfig": None}
    places = spec.Places(output="s3://b/o", code="s3://b/c", checkpoints="s3://b/k/")
    made = build(job(service_options=options), places)["spec"]
    assert "sagemaker_region" not in made["hyperParameters"]
    assert made["hyperParameters"]["depth"] == "3"
    assert "checkpointConfig" not in made
    kept = build(job(), places)["spec"]
    assert kept["checkpointConfig"] == {"s3URI": "s3://b/k/", "localPath": "/opt/ml/checkpoints"}
    assert kept["environment"]["CHECKPOINT_DIR"] == "/opt/ml/checkpoints"


def test_the_digest_is_that_of_the_content() -> None:
    def digest(**more: Any) -> str:
        given = job(data={"a.csv": "1"}, **more)
        return spec.job_digest(given, measure_all(given.files()))

    assert digest() == digest(cycle="c")
    assert len({digest(), digest(env={"A": 1}), digest(nodes=2), digest(service_options={"volume_size": 9})}) == 4
    changed = job(data={"a.csv": "2"})
    assert spec.job_digest(changed, measure_all(changed.files())) != digest()


def test_a_version_with_more_fields_gives_the_same_digest() -> None:
    class Later(TrainingJob):
        """A job with a field that this version does not have."""

        something: str = ""

    given = {"name": "j", "image": IMAGE}
    assert spec.job_digest(Later(**given), {}) == spec.job_digest(TrainingJob(**given), {})
    assert spec.job_digest(Later(**given, something="x"), {}) != spec.job_digest(TrainingJob(**given), {})


def test_code_is_no_data() -> None:
    """The version of the data is that of the data alone, and the files of a folder are told apart from them."""

    def prepare(**more: Any) -> submission.Prepared:
        given = job(**{"script": None, "entry_point": "train.py", "data": {"rows/a.csv": "1,2"}, **more})
        with submission.prepared(given, JOB_ID, "train", connection(), frozenset) as made:
            return made

    one, two = (prepare(source={"train.py": "import nets", "nets.py": text}) for text in ("a = 1", "a = 2"))
    assert {each.path: each.code for each in one.inputs} == {"nets.py": True, "rows/a.csv": False, "train.py": True}
    versions = {made.object["metadata"]["annotations"][names.DATA_ANNOTATION] for made in (one, two)}
    assert versions == {data_version(one.inputs)} == {data_version(two.inputs)}


def test_the_archive_of_a_script(tmp_path: Path) -> None:
    given = job(
        source={"lib/__init__.py": "", "lib/m.py": "x = 1"}, requirements="six\n# jobapi: constraint numpy<2",
        data={"in/a.csv": "1,2"}, arguments=["--rate", "1e3"], env={"EPOCHS": "0.10"},
    )  # fmt: skip
    files = script_mode.archive_files(given, measure_all(given.files()))
    first, second = tmp_path / "1.tar.gz", tmp_path / "2.tar.gz"
    script_mode.pack(files, first)
    script_mode.pack(files, second)
    assert first.read_bytes() == second.read_bytes()
    with tarfile.open(first) as archive:
        assert archive.getnames() == sorted(
            ["jobapi_constraints.txt", "jobapi_job.json", "jobapi_start.py", "lib/__init__.py", "lib/m.py",
             "requirements.txt", "train.py"]
        )  # fmt: skip
        archive.extractall(tmp_path / "code", filter="data")
    settings = json.loads((tmp_path / "code" / start.JOB).read_text())
    assert settings == {
        "program": ["train.py"], "arguments": ["--epochs=0.10", "--rate", "1e3"], "data": ["in/a.csv"],
        "channel": "training",
    }  # fmt: skip
    text = (tmp_path / "code" / "requirements.txt").read_text()
    assert text.startswith("-c jobapi_constraints.txt\nsix\n")
    taken = job(script=None, source={"jobapi_start.py": ""}, entry_point="jobapi_start.py")
    with pytest.raises(InvalidJob, match=r"jobapi_start\.py is the name of a file of this provider"):
        script_mode.archive_files(taken, measure_all(taken.files()))


def test_a_whole_list_of_requirements_is_not_for_the_toolkit() -> None:
    text = "# jobapi: requires-python >=3.9\n# jobapi: exact\n# jobapi: constraint numpy<2\nsix\n"
    given = job(requirements=text)
    files = script_mode.archive_files(given, measure_all(given.files()))
    assert {"jobapi_requirements.txt", "pip_directions.py"} < files.keys()
    assert not {"requirements.txt", "jobapi_constraints.txt"} & files.keys()
    taken = job(source={"pip_directions.py": ""})
    with pytest.raises(InvalidJob, match=r"pip_directions\.py is the name of a file of this provider"):
        script_mode.archive_files(taken, measure_all(taken.files()))


def with_pip(tmp_path: Path, requirements: str) -> subprocess.CompletedProcess[str]:
    """Run a job with requirements, by a Python that has pip."""
    given = job(script="print(open('requirements.txt').read())", requirements=requirements)
    files = script_mode.archive_files(given, measure_all(given.files()))
    script_mode.pack(files, tmp_path / "a.tar.gz")
    with tarfile.open(tmp_path / "a.tar.gz") as archive:
        archive.extractall(tmp_path / "code", filter="data")
    pip = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": f"{tmp_path}/wheels", "PIP_TARGET": f"{tmp_path}/place"}
    return subprocess.run(
        [sys._base_executable, tmp_path / "code" / script_mode.PROGRAM],  # type: ignore[attr-defined]
        check=False, env=os.environ | pip, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def test_a_whole_list_of_requirements_is_installed_alone(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    for version in ("1.0", "2.0"):
        write_wheel(tmp_path / "wheels", "net", version=version)
    write_wheel(tmp_path / "wheels", "top", requires=["net", "gone"])
    ran = with_pip(tmp_path, "# jobapi: exact\n# jobapi: constraint net<2\ntop\nnet\n")
    assert ran.returncode == 0, ran.stdout
    assert ran.stdout.rstrip().endswith("# jobapi: exact\n# jobapi: constraint net<2\ntop\nnet")
    installed = sorted(path.name for path in (tmp_path / "place").glob("*.dist-info"))
    assert installed == ["net-1.0.dist-info", "top-1.0.dist-info"]


def test_requirements_that_this_python_or_pip_cannot_follow(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    ran = with_pip(tmp_path, "# jobapi: requires-python >=3.99\n# jobapi: exact\nnone-such\n")
    assert (ran.returncode, "choose another image" in ran.stdout) == (1, True)
    ran = with_pip(tmp_path, "# jobapi: exact\nnone-such\n")
    assert ran.returncode == 1
    assert "jobapi: The requirements of the job could not be installed" in ran.stdout


@pytest.mark.parametrize("entry", ["train.py", "-m train"])
def test_the_script_starts_as_elsewhere(tmp_path: Path, entry: str) -> None:
    script = "import sys; print(sys.argv[1:], open('in/a.csv').read(), __name__)"
    given = job(script=None, source={"train.py": script}, entry_point=entry, data={"in/a.csv": "1,2"}, env={"A": "1e3"})
    files = script_mode.archive_files(given, measure_all(given.files()))
    script_mode.pack(files, tmp_path / "a.tar.gz")
    with tarfile.open(tmp_path / "a.tar.gz") as archive:
        archive.extractall(tmp_path / "code", filter="data")
    inputs = tmp_path / "input"
    (inputs / "training" / "in").mkdir(parents=True)
    (inputs / "training" / "in" / "a.csv").write_text("1,2")
    program = tmp_path / "code" / script_mode.PROGRAM
    program.write_text(program.read_text().replace('"/opt/ml/input/data"', repr(str(inputs))))
    ran = subprocess.run([sys.executable, program, "--a", "1000.0"], capture_output=True, text=True, check=True)
    assert ran.stdout == "['--a=1e3'] 1,2 __main__\n"
