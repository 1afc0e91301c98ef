# SPDX-License-Identifier: Apache-2.0
"""The options of ``jobapi submit`` for a job without a job file: a folder of code, or a script."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from airflow_provider_jobapi.exceptions import InvalidJob

OF_A_FOLDER = ("entry_point", "module")
OF_CODE = ("data", "env_var", "name", "image", "completion_time", "cpus", "gpus", "memory")
"""The options that say what a job file says otherwise."""


def add_options(parser: argparse.ArgumentParser, whole: Callable[[int, int], Callable[[str], int]]) -> None:
    """Add the options of a job without a job file.

    :param whole: Makes the check of a whole number between two others.
    """
    group = parser.add_argument_group("without a job file", "The script's arguments follow after --.")
    group.add_argument("--source", metavar="DIR", help="a folder of code, which becomes the job's working directory")
    entry = group.add_mutually_exclusive_group()
    entry.add_argument("--entry-point", metavar="FILE", help="the script in DIR; by default train.py or main.py")
    entry.add_argument(
        "-m", "--module", metavar="MODULE", help="the module to run, as python3 -m does, of DIR or of the requirements"
    )
    group.add_argument("--script", metavar="FILE", help="a script, with or without a DIR of modules")
    group.add_argument(
        "--data",
        nargs="+",
        action="extend",
        metavar="[NAME=]PATH",
        help="files, folders or globs for the working directory, below NAME",
    )
    group.add_argument(
        "--env-var", action="append", metavar="NAME=VALUE", help="an environment variable of the job; may be repeated"
    )
    group.add_argument("--name", help="the job's name; by default that of DIR or of the script")
    group.add_argument("--image", help="the container image, where the service runs containers")
    group.add_argument("--completion-time", metavar="SPAN", help="the time that the run may take, such as 20h")
    group.add_argument("--cpus", type=whole(1, 4096), metavar="N", help="CPUs (1)")
    group.add_argument("--gpus", type=whole(0, 1024), metavar="N", help="GPUs (0)")
    group.add_argument("--memory", type=whole(1, 2**31), metavar="MB", help="megabytes (2048)")


def split_arguments(words: list[str]) -> tuple[list[str], list[str]]:
    """Split a command line at ``--``, after which the arguments of a script stand that ``submit`` gets."""
    if words[:1] != ["submit"] or "--" not in words:
        return words, []
    place = words.index("--")
    before = [word.partition("=")[0] for word in words[:place]]
    names = ("--source", "--script", "--module")
    of_code = any(word[:2] == "-m" or (len(word) > 3 and name.startswith(word)) for word in before for name in names)
    return (words[:place], words[place + 1 :]) if of_code else (words, [])


def is_of_code(options: argparse.Namespace) -> bool:
    """Whether the options describe a job without a job file.

    :raises InvalidJob: when they describe none, or one in two ways.
    """
    of_code = options.source is not None or options.script is not None or (options.module and options.file is None)
    if bool(of_code) == (options.file is not None):
        raise InvalidJob(
            "Name the job: by --file (a job file), by --source (a folder of code), by --script or by -m (a module)."
            if not of_code
            else "--file names a job file, which says by itself what is run: leave out --source and --script."
        )
    if of_code and options.folder is not None:
        raise InvalidJob("FOLDER belongs to --file: give the job's data by --data, and its code by --source.")
    used = [name for name in (*OF_A_FOLDER, *OF_CODE) if getattr(options, name) is not None]
    wrong = used if not of_code else [name for name in used if name in OF_A_FOLDER and options.script is not None]
    if wrong:
        option = f"--{wrong[0].replace('_', '-')}"
        other = "a job file says that itself; leave it out" if not of_code else "--script is what is run; leave one out"
        raise InvalidJob(f"{option} cannot be used with {'--script' if of_code else '--file'}: {other}.")
    return bool(of_code)
