# SPDX-License-Identifier: Apache-2.0
"""Start a job's script in a framework container of SageMaker, as other services start it.

It is the entry point of ``sourcedir.tar.gz``, and runs under the Python of the container, 3.6 or later. It links the
data files into the working directory, where a script expects them, and gives the script its arguments as they are:
SageMaker's toolkit reads hyperparameters as JSON, which turns ``1e3`` into ``1000.0``. It installs requirements whose
list is whole: the toolkit would install what the list leaves out.
"""

import json
import os
import runpy
import shutil
import subprocess
import sys

JOB = "jobapi_job.json"
"""Beside this file: ``program``, ``arguments``, ``data`` (the paths of files) and ``channel`` (where they are); with
directions in the requirements also ``exact``, ``constraints`` and ``requires_python``."""

REQUIREMENTS = "jobapi_requirements.txt"
"""A whole list of requirements, under a name that the toolkit does not install."""

INPUT = "/opt/ml/input/data"


def link_data(job, here, inputs=INPUT):
    """Link each data file into the working directory, unless a file of the code is there."""
    for path in job["data"]:
        source, target = os.path.join(inputs, job["channel"], path), os.path.join(here, path)
        if os.path.lexists(target) or not os.path.exists(source):
            continue
        if not os.path.isdir(os.path.dirname(target)):
            os.makedirs(os.path.dirname(target))
        try:
            os.symlink(source, target)
        except FileExistsError:  # several processes of one machine start at a time
            pass


def install(job, here):
    """Install a whole list of requirements, once on each machine; whether that worked."""
    import fcntl

    if here not in sys.path:  # under MPI
        sys.path.append(here)
    import pip_directions

    if not pip_directions.has_python(job, "choose another image"):
        return False
    wanted, shown = os.path.join(here, REQUIREMENTS), os.path.join(here, "requirements.txt")
    if not job.get("exact"):
        return True
    with open(wanted, encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # several processes of one machine start at a time
        if os.path.exists(shown):
            return True
        command = [sys.executable, "-m", "pip", "install", "-r", wanted]
        if subprocess.call(command + pip_directions.pip_options(job), cwd=here):
            print("jobapi: The requirements of the job could not be installed; the lines above say why.")
            return False
        shutil.copyfile(wanted, shown + ".new")
        os.rename(shown + ".new", shown)
    return True


def main():
    """Replace this process by the script's."""
    here = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(here, JOB), encoding="utf-8") as file:
        job = json.load(file)
    if {"exact", "requires_python"} & set(job) and not install(job, here):
        sys.exit(1)
    link_data(job, here)
    os.chdir(here)
    command = job["program"] + job["arguments"]
    sys.stdout.flush()
    if "mpi4py" not in sys.modules:
        os.execv(sys.executable, [sys.executable, "-u", *command])
    # Under MPI this process is the one that ends the others when it fails.
    sys.path[0] = here
    module = command[0] == "-m"
    sys.argv = command[1:] if module else command
    run = runpy.run_module if module else runpy.run_path
    run(sys.argv[0], run_name="__main__", **({"alter_sys": True} if module else {}))


if __name__ == "__main__":
    main()
