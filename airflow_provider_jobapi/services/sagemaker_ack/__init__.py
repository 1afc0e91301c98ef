# SPDX-License-Identifier: Apache-2.0
"""Amazon SageMaker as a training service, through the ``TrainingJob`` resource of ACK in a Kubernetes cluster.

A job is an object of the cluster: this provider creates it, the controller (AWS Controllers for Kubernetes, for the
service ``sagemaker``) creates the training job in AWS and copies its state back. Files and models are in S3, logs in
CloudWatch.

==================  ==========================================================================================
module              what is in it
==================  ==========================================================================================
``connection``      the settings of the connection
``names``           the names of a job in Kubernetes, in AWS and in S3, all derived from its id
``handles``         the handle of a job, written and read
``clients``         the clients that the hook hands in
``errors``          errors of Kubernetes and of AWS as errors of this provider
``objects``         create, read and delete ``TrainingJob`` objects from a worker
``status``          an object's status as a ``JobStatus``, and the notices for the log. Pure
``schema``          the schema of the custom resource, and the check of a spec against it. Pure
``instance_types``  the table of instance types, and the choice by cpus, gpus and memory. Pure
``options``         ``service_options``: the shortcuts of this provider, and ACK's own fields. Pure
``script_mode``     a script for the framework containers: ``sourcedir.tar.gz`` and its hyperparameters
``spec``            the whole ``TrainingJob`` object of a job. Pure
``storage``         the bucket of the connection
``limits``          the limits of SageMaker's API. Pure
``bounds``          the bounds of every field. Pure
``contradictions``  the refusal of options that contradict a parameter. Pure
``exposure``        the refusal of secrets in what others can read. Pure
``submission``      prepare a job: its files, where they go in S3, and its object
``records``         the records in S3: that a job existed, and how it ended
``adoption``        take up a job whose object is not there, or is not its own
``aws_state``       ask SageMaker itself how a job ended whose object is gone
``log_tail``        the last lines of a log, from a worker
``archive``         unpack a ``model.tar.gz`` that nobody vouches for
``model``           find and fetch the model of a job
``checkpoints``     the checkpoints of a clear cycle, in S3
``checks``          the checks of the Test button
``service``         the worker's side, :class:`~.service.SageMakerAckService`
``watch``           watch an object from the triggerer
``log_events``      streams and events of CloudWatch as lines, and positions in them. Pure
``job_logs``        read all streams of a job, from one cursor to the next
``log_reader``      the reads of one job: when they are due, and what went wrong
``follower``        the triggerer's side, :class:`~.follower.SageMakerAckFollower`
==================  ==========================================================================================
"""
