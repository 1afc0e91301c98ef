# SPDX-License-Identifier: Apache-2.0
"""The supervisor of one job: ``python -I -S <this directory> DIRECTORY``.

It runs beside the job, on whatever machine an engine has placed it, and owns what must be true about the job: its log,
its limits, its end. Standard library only, Python 3.8 and newer, and nothing of it imports the package, so that this
directory can be shipped to any machine. What stands in DIRECTORY:

``spec.json``
    What to run, written by the server::

        {"steps": [{"name": "environment", "argv": […], "env": {…}, "cwd": "…", "failed": "EnvironmentFailed"},
                   {"name": "training", "argv": ["/bin/sh", "-c", "…"], "env": {…}, "cwd": "…",
                    "limits": {"memory": 2147483648}}],
         "seconds": 72000, "uid": null, "gid": null, "log_bound": 100000000, "grace": 30, "notices": ["…"],
         "holds": ["…"]}

    The last step is the job's command. ``seconds`` bounds the time of all steps together and may be null, as may
    ``limits`` and each of its values; ``seconds`` in the limits of a step, which earlier servers wrote, bounds that
    step. ``notices`` are written at the log's beginning. ``holds`` are files on which a shared lock is kept while the
    job runs. Steps run as ``uid`` and ``gid``, the supervisor as the user that started it.
``lock``
    Locked (flock) for the supervisor's whole life: it is alive exactly as long as the lock is held.
``started``
    Made before the first step. Where it exists, no supervisor ever starts the job again.
``running``
    ``{"time": "…"}``, made when the job's command begins; the exit record's ``started`` is the same time. Empty where
    the disk was full.
``log``
    The records of the job's output.
``stop``
    ``{"by": "…", "grace": 30}``, written by whoever wants the job to end.
``exit.json``
    The exit record ``{"step", "exit_code", "signal", "reason", "message", "started", "finished", "peak_memory",
    "log_size"}``, written aside and renamed: it exists exactly when the job is over.

The supervisor itself exits with the job's exit code (128 + n for signal n), 75 when another one is alive, 76 when the
job was started before, and 74 when the directory cannot be used.
"""
