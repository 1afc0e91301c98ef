# SPDX-License-Identifier: Apache-2.0
"""A double of AWS Controllers for Kubernetes (ACK) for SageMaker, and of SageMaker behind it.

The controller works on a real Kubernetes API (:mod:`tests.harness.kubernetes`) by the rules of
:mod:`tests.harness.ack.rules`, which are held to objects of the real controller. S3 and CloudWatch are a moto server's.
The fixture ``ack`` watches the namespace of the test, and runs the script of a job for real::

    from tests.harness.ack.fixtures import ack, cloud
    from tests.harness.kubernetes.fixtures import kubernetes, namespace

    def test_something(ack: Ack, kubernetes: Kubernetes, cloud: Cloud, namespace: str) -> None:
        connections = kubernetes.connection(kubernetes.grant(RBAC, namespace), namespace), cloud.connection

A test that moves jobs itself, or wants something to go wrong::

    ack.sagemaker.driver = drivers.by_hand  # or scripted(["a line"], {"model.txt": b""}), or train
    job = ack.job("digits")                 # waits until SageMaker has one whose name begins or ends so
    job.move("Training")                    # any secondary status; move("Odd", "Paused") also the status
    job.log("epoch 1", instance=2)          # into <job>/algo-2-<epoch>
    job.interrupt(); job.restart()          # spot instances are lost and found; from now on new streams
    job.restart()                           # the same by retryStrategy: Restarting
    job.set(warmPoolStatus={"status": "Available"}, debugRuleEvaluationStatuses=[...])
    job.complete({"model.txt": b"..."})     # or fail("AlgorithmError: ..."), stopped("MaxRuntimeExceeded")
    job.told_to_stop                        # StopTrainingJob was called

    ack.refuse("create", "AccessDeniedException", "not authorized")  # for ever, until ack.allow("create")
    ack.refuse("describe", "ThrottlingException", "Rate exceeded", times=3)
    ack.stop(); ack.start()                 # no controller; SageMaker goes on
    ack.sagemaker.stop_seconds = 5          # how long a job is Stopping
    ack.sagemaker.calls                     # those of the controller: [("create", name), ("describe", name), ...]
    ack.object(namespace, name)             # the object, or None

    with redefined(kubernetes, without("spec", "infraCheckConfig")):  # an older definition of training jobs
    with redefined(kubernetes, knowing("spec", "serverless")):        # a newer one
    with undefined(kubernetes):                                       # none
    cloud.drop_logs(); cloud.make_bucket("far", "us-west-2")          # no log group yet, a bucket of another region

A namespace that is not watched is any other than ``namespace``: ``kubernetes.namespace()``. Two things to know. A job
whose name SageMaker has already, made by another object, shows all of that job's status beside ``ACK.Terminal``
"Resource already exists", once: the controller looks at it no more. And the controller writes defaults into the spec
of an object, so it is not as it was sent.
"""

from __future__ import annotations

from pathlib import Path

_DATA = Path(__file__).parent / "data"

CRD = _DATA / "trainingjobs_crd.yaml"
"""ACK's own definition of TrainingJob, of its controller's version 1.9.1."""
SAMPLE = _DATA / "sample_training_job.yaml"
OBSERVED = _DATA / "observed"
"""Objects as the real controller leaves them, from its own tests."""
RBAC = Path(__file__).parents[3] / "docs" / "sagemaker_ack" / "rbac"
"""The rights that the documentation tells users to give to Airflow."""
