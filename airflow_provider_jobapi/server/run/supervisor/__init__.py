# SPDX-License-Identifier: Apache-2.0
"""The supervisor of one job: ``python -I -S <this directory> DIRECTORY``.

It runs beside the job, on the machine where an engine placed it, and owns the job's log, limits and exit record. It
uses the standard library only (Python 3.8 and newer) and imports nothing from the package, so that this directory can
be copied to any machine. The files in DIRECTORY:

``spec.json``
    What to run, written by the server::

        {"steps": [{"name": "environment", "argv": […], "env": {…}, "cwd": "…", "failed": "EnvironmentFailed"},
                   {"name": "training", "argv": ["/bin/sh", "-c", "…"], "env": {…}, "cwd": "…",
                    "limits": {"memory": 2147483648}}],
         "seconds": 72000, "uid": null, "gid": null, "log_bound": 100000000, "grace": 30, "notices": ["…"],
         "holds": ["…"], "processes": 4096, "relay": false,
         "scalars": {"folders": ["…"], "bound": 16000000}}

    The last step is the job's command. ``seconds`` bounds the time of all steps together and may be null, as may
    ``limits`` and each of its values; ``seconds`` in the limits of a step, which earlier servers wrote, bounds that
    step. ``notices`` are written at the log's beginning. ``holds`` are files on which a shared lock is kept while the
    job runs. A step has ``read_only`` directories and ``hidden`` files, where it has a view of the file system of its
    own. A step with ``checkpoints``, ``{"folder": "…", "bound": 1000000}``, has the last whole checkpoints that it
    writes into the folder copied to ``last-checkpoints``, at most so many bytes. ``processes`` bounds the processes and
    threads of all steps together. Steps run as ``uid`` and ``gid``, the supervisor as the user that started it. With
    ``relay`` the supervisor reads the credentials of the package index from the socket that its second argument names,
    and starts ``index_relay.py``; its address takes the place of ``{relay}`` in the steps' variables. The scalars in
    TensorBoard's event files below the ``folders`` of ``scalars`` are written to a file of at most ``bound`` bytes;
    without it none are read.
``lock``
    Locked (flock) by the supervisor from its start to its end: it is alive exactly as long as the lock is held.
``started``
    Made before the first step. While it exists, no supervisor starts the job again.
``running``
    ``{"time": "…"}``, made when the job's command begins; the exit record's ``started`` is the same time. Empty where
    the disk was full.
``log``
    The records of the job's output. Beside it, ``log.reserve`` keeps room for its last line.
``scalars``
    The points that the job wrote into event files: records of the log's form, with lines of ``jobapi_metrics``. It is
    made with the first point.
``stop``
    The stop request, ``{"by": "…", "grace": 30}``, written by the engine. An empty file is a stop request too.
``exit.json``
    The exit record ``{"step", "exit_code", "signal", "reason", "message", "started", "finished", "peak_memory",
    "log_size", "lost_lines"}``, written under another name and renamed: it exists exactly when the job is over.
    ``lost_lines`` counts the lines of the log that could not be written, since the disk was full.

The supervisor exits with the job's exit code (128 + n for signal n), with 75 when another supervisor is alive, with 76
when the job was started before, and with 74 when the directory cannot be used.
"""
