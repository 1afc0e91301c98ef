# SPDX-License-Identifier: Apache-2.0
"""Train API V1 containers as a training service: images of the Personal Health Train, run where the data are.

A train is a container image that understands four commands. Each is one container of a Docker or Podman engine, whose
stdout ends with a JSON object, the train's response. The algorithm's container leaves files, of which the successor
image is made.

====================  ========================================================================================
module                what is in it
====================  ========================================================================================
``commands``          the four commands, and how an image spells them. Pure
``responses``         find the response at the end of a stdout. Pure
``vocabulary``        what responses say, in the words of Train API V1, as models. Pure
``dialects``          responses of all dialects in the one vocabulary. Pure
``targets``           the kinds of values that an environment variable can be required to have. Pure
``requirements``      evaluate requirements against an environment, and name what is unmet. Pure
``tags``              the rules of tags, and the names of images. Pure
``export_files``      the rules of the files that a successor image is made of. Pure
``isolation``         what a container may see and use, as its configuration for the engine. Pure
``judge``             the outcome of a command, by its response and its exit code. Pure
``validation``        check whether an image keeps the Train API, by running its commands
``schemas``           the JSON Schemas of responses and requirements. Pure
``connection``        the settings of a station's connection
``plan``              what a container is to run; a training job as the run of a train. Pure
``container_config``  the body of the request that creates a container, and its labels. Pure
``engine``            the calls of Docker's API, and where Docker and Podman differ
``errors``            what engines and registries say, as errors of this provider. Pure
``containers``        claim, start, records and removal of a job's container
``states``            what an engine says of a container. Pure
``job_status``        the status of a job, of its container and the verdict. Pure
``station_data``      the data of a job: mounted, or copied into a volume
``logs``              new lines, last lines, and the end of a stdout
``log_frames``        lines of a multiplexed stream, each once. Pure
``images``            pulls images where they are to be pulled
``housekeeping``      removes the containers of jobs that ended some days ago
``outcomes``          how containers have ended
``exports``           the export files, out of an ended container
``successor``         the successor image
``service``           the worker's side; ``follower`` is the triggerer's, ``handles`` what both know a job by
``checks``            the Test button
====================  ========================================================================================
"""
