# SPDX-License-Identifier: Apache-2.0
"""Follow the directions of a job's requirements where pip installs them: which Python, a whole list, constraints.

Sent beside the program that starts a job on ModelArts and on SageMaker, where the job has such directions, and run
under the Python there, 2.7 or later; see ``requirement_text`` for the directions.
"""

from __future__ import print_function

import io
import os
import sys
import tempfile


def has_python(job, advice):
    """Whether this Python is one that the requirements need; says why it is not.

    :param advice: How to choose another Python there.
    """
    wanted, version = job.get("requires_python"), sys.version.split()[0]
    if not wanted:
        return True
    try:
        from pip._vendor.packaging.specifiers import SpecifierSet

        fits = SpecifierSet(wanted).contains(version, prereleases=True)
    except (ImportError, ValueError):  # a pip that is too old to say
        return True
    if not fits:
        print(
            "The requirements need Python {} (requires-python), and here is {}: {}, or widen requires-python.".format(
                wanted, version, advice
            )
        )
    return fits


def pip_options(job):
    """The options with which pip installs a whole list, and bounds what others bring."""
    options = ["--no-deps"] if job.get("exact") else []
    if job.get("constraints"):
        bounds = os.path.join(tempfile.mkdtemp(prefix="requirements-"), "constraints.txt")
        with io.open(bounds, "w", encoding="utf-8") as file:
            file.write("\n".join(job["constraints"] + [""]))
        options += ["-c", bounds]
    return options
