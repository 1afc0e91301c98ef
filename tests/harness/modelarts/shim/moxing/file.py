# SPDX-License-Identifier: Apache-2.0
"""Copy folders between OBS and the container; access comes from the variables that a job of v1 has."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path
from typing import Any


def _obs() -> Any:
    """The double's own OBS client, loaded by its path: its package is not on a job's path."""
    spec = importlib.util.spec_from_file_location("_obs_of_the_double", Path(__file__).parents[2] / "obs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    environ = os.environ
    endpoint = ("https://" if environ["S3_USE_HTTPS"] == "1" else "http://") + environ["S3_ENDPOINT"]
    access = {"endpoint": endpoint, "key": environ["ACCESS_KEY_ID"], "secret": environ["SECRET_ACCESS_KEY"]}
    return module.Obs(access | {"region": environ["S3_REGION"]})


def _is_remote(place: str) -> bool:
    return place.startswith(("s3://", "obs://"))


def _folder(url: str) -> str:
    return url if url.endswith("/") else f"{url}/"


def copy_parallel(src_url: str, dst_url: str) -> None:
    """Copy a folder; one side or both may be remote.

    :raises FileNotFoundError: The source has nothing.
    """
    if _is_remote(src_url) and _is_remote(dst_url):
        raise NotImplementedError("Copy through a local directory.")
    if _is_remote(src_url):
        target = Path(dst_url)
        target.mkdir(parents=True, exist_ok=True)
        copied = _obs().download(_folder(src_url), target)
    elif _is_remote(dst_url):
        copied = _obs().upload(Path(src_url), _folder(dst_url))
        if not Path(src_url).is_dir():
            raise FileNotFoundError(src_url)
        return
    else:
        shutil.copytree(src_url, dst_url, dirs_exist_ok=True)
        return
    if not copied:
        raise FileNotFoundError(src_url)


def exists(url: str) -> bool:
    """Whether an object, a folder with objects, or a local path is there."""
    if not _is_remote(url):
        return Path(url).exists()
    obs = _obs()
    return bool(obs.has(url) or obs.sizes(_folder(url)))


def remove(url: str, recursive: bool = False) -> None:
    """Delete an object, or a folder with all that is in it.

    :raises FileNotFoundError: There is no such object.
    """
    if not (_obs().delete(_folder(url)) if recursive else _obs().delete(url)):
        raise FileNotFoundError(url)


def list_directory(url: str, *, recursive: bool = False) -> list[str]:
    """The names in a folder."""
    if not _is_remote(url):
        return sorted(path.name for path in Path(url).iterdir())
    names = sorted(_obs().sizes(_folder(url)))
    return names if recursive else sorted({name.partition("/")[0] for name in names})


def make_dirs(url: str) -> None:
    """Make a local folder; a remote one needs no making."""
    if not _is_remote(url):
        Path(url).mkdir(parents=True, exist_ok=True)
