# SPDX-License-Identifier: Apache-2.0
"""What the boot file does with directions in the requirements of a job on ModelArts.

Uploaded beside the boot file where a job has such directions, and run under the same Pythons.
"""

from __future__ import print_function

import io
import os
import sys
import tempfile


def has_python(job):
    """Whether this Python is one that the requirements need; says why it is not."""
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
            "The requirements need Python {} (requires-python), and this engine has {}: choose another engine in "
            "service_options, or widen requires-python.".format(wanted, version)
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
