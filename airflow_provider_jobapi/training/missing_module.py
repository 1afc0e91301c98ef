# SPDX-License-Identifier: Apache-2.0
"""What to do about a job that failed because a module is not installed, read from the end of its log."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable

from airflow_provider_jobapi.training.status import JobState, JobStatus, Reason

PACKAGES = {
    "attr": "attrs", "bs4": "beautifulsoup4", "Crypto": "pycryptodome", "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil", "docx": "python-docx", "dotenv": "python-dotenv", "faiss": "faiss-cpu",
    "fitz": "PyMuPDF", "git": "GitPython", "google.cloud.bigquery": "google-cloud-bigquery",
    "google.cloud.storage": "google-cloud-storage", "google.protobuf": "protobuf", "graphviz": "graphviz",
    "hydra": "hydra-core", "igraph": "python-igraph", "imblearn": "imbalanced-learn", "jose": "python-jose",
    "jwt": "PyJWT", "kafka": "kafka-python", "lightning_fabric": "lightning", "magic": "python-magic",
    "mpl_toolkits.basemap": "basemap", "MySQLdb": "mysqlclient", "OpenSSL": "pyOpenSSL",
    "osgeo": "GDAL", "PIL": "Pillow", "pkg_resources": "setuptools<81", "psycopg2": "psycopg2-binary",
    "pydot_ng": "pydot-ng", "pywt": "PyWavelets", "pytorch_lightning": "pytorch-lightning",
    "ruamel": "ruamel.yaml", "sentence_transformers": "sentence-transformers", "serial": "pyserial",
    "skimage": "scikit-image", "sklearn": "scikit-learn", "skopt": "scikit-optimize", "slugify": "python-slugify",
    "sksurv": "scikit-survival", "snappy": "python-snappy", "socks": "PySocks", "talib": "TA-Lib",
    "tensorboard_data_server": "tensorboard", "tensorflow_addons": "tensorflow-addons",
    "tensorflow_datasets": "tensorflow-datasets", "tensorflow_hub": "tensorflow-hub",
    "tensorflow_probability": "tensorflow-probability", "tensorflow_text": "tensorflow-text",
    "text_unidecode": "text-unidecode", "tf_keras": "tf-keras", "torch_geometric": "torch-geometric",
    "umap": "umap-learn", "usb": "pyusb", "websocket": "websocket-client", "wx": "wxPython", "yaml": "PyYAML",
    "zmq": "pyzmq",
}  # fmt: skip
"""The packages of PyPI whose modules have another name, by the module."""

_REMOVED = {
    "distutils",
    "imp",
    "asynchat",
    "asyncore",
    "smtpd",
    "cgi",
    "crypt",
    "imghdr",
    "pipes",
    "sndhdr",
    "telnetlib",
}
"""Modules that were part of Python and are not since 3.12 or 3.13."""

_NAME = r"(?P<name>[\w.]+)"
_ERROR = re.compile(
    rf"(?:ModuleNotFoundError|ImportError): No module named '?{_NAME}'?"
    r"(?P<hidden>; '[\w.]+' is not a package.*)?(?:\. Did you mean.*)?"
    rf"|\S*python[\d.]*: (?:No module named {_NAME.replace('name', 'module')}"
    rf"|Error while finding module specification for '[^']*' \(ModuleNotFoundError: No module named '"
    rf"{_NAME.replace('name', 'parent')}'\).*)"
)
_OF_A_LOG = re.compile(r"^(?:\[[\w.:-]+\]:? )+")
"""The name of a log before its lines, where a job has several, and torch's of a process."""

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")

_NOISE = re.compile(r"\s*$|jobapi: |\[Model[Aa]rts Service Log\]|wandb: |Set the environment variable HYDRA_FULL_ERROR")
"""Lines of others than the script, which may come after its end."""

_BEGIN = "Traceback (most recent call last):"
_LAUNCHED = re.compile(r"(?:subprocess\.)?CalledProcessError: |torch\.distributed\.elastic\.\S*ChildFailedError:")
"""The errors of a program that started the script, which say no more than that it failed."""

_LAUNCHER = re.compile(r"[EWI]\d{4} \d\d:\d\d:\d\d|(?:ERROR|WARNING):torch\.distributed")


def advice(status: JobStatus, lines: Iterable[str]) -> str:
    """Return what to do where a module that is not installed made a job fail; else nothing.

    :param lines: The last lines of its log.
    """
    of_itself = status.reason not in {each.value for each in Reason} - {Reason.NON_ZERO_EXIT.value}
    if status.status is not JobState.FAILED or not of_itself:
        return ""
    return advice_for(lines)


def advice_for(lines: Iterable[str]) -> str:
    """Return what to do where a log ends with a module that is not installed; else nothing."""
    found = _ERROR.fullmatch(_last_line(lines))
    if found is None:
        return ""
    name = (found["name"] or found["module"] or found["parent"]).strip(".")
    top = name.partition(".")[0]
    if found["hidden"]:
        return f"A file or folder {top} of the job hides the package {top}: give it another name."
    if top in _REMOVED or top in sys.stdlib_module_names:
        return _of_python(top)
    package = PACKAGES.get(name)  # of google.protobuf, Python names the whole where another package brings google
    if package is None and name != top:
        return (
            f"The job has a module {top}, but no {name} in it: name another version of its package in requirements, or "
            "ship the missing file as source."
        )
    if package:
        return f"The job's environment has no module {name}: add its package, {package}, to requirements."
    return (
        f"The job's environment has no module {name}: add its package, which usually has the same name, to "
        "requirements; a module of your own is shipped as source."
    )


def _of_python(name: str) -> str:
    if name == "distutils":
        return "Python has no module distutils since 3.12: add setuptools, which has one, to requirements."
    return (
        f"The job's Python has no module {name}, which other versions or builds of Python have: choose another one, by "
        "requires-python or the image."
    )


def _last_line(lines: Iterable[str]) -> str:
    """The last line of the script itself, without those of the programs that started it."""
    left = [_OF_A_LOG.sub("", _COLOUR.sub("", line)) for line in lines]
    left = [line for line in left if not _NOISE.match(line)]
    while launched := [index for index, line in enumerate(left) if _LAUNCHED.match(line)]:
        before = left[: launched[-1]]
        begins = [index for index, line in enumerate(before) if line == _BEGIN]
        after = left[launched[-1] + 1 :]
        if not begins or (after and "ChildFailedError" not in left[launched[-1]]):
            break
        left = [line for line in before[: begins[-1]] if not _LAUNCHER.match(line)]
    return left[-1].strip() if left else ""
