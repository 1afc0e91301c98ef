# SPDX-License-Identifier: Apache-2.0
"""The credentials of package indexes are readable by no job and by no build of a package, and the indexes work."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pytest

from airflow_provider_jobapi.server.config import SettingsError
from airflow_provider_jobapi.server.run.index_credentials import RELAY, installer
from airflow_provider_jobapi.server.run.supervisor.index_relay import Realm
from tests.harness.bench import Bench, files_with
from tests.harness.packages import Index, write_sdist, write_wheel
from tests.harness.tls import Authority

SECRET = "tr0ub4dor-of-the-index"
INSTALL = "pip3 install -r requirements.txt && python3 train.py"

SNOOP = """
import glob, os
found = [repr(dict(os.environ))]
process = os.getpid()
while process > 1:
    for name in ("environ", "cmdline"):
        try:
            found.append(open("/proc/%d/%s" % (process, name), "rb").read().decode(errors="replace"))
        except OSError:
            pass
    process = int(open("/proc/%d/stat" % process).read().rpartition(")")[2].split()[1])
for pattern in ("{job}/*", "{job}/tmp/*", "{job}/tmp/.*"):
    for path in glob.glob(pattern):
        try:
            found.append(path + open(path, errors="replace").read())
        except OSError:
            pass
open("{place}", "a").write("\\n".join(found))
"""

WAYS = ["default-index", "index-url", "extra-index-url", "named", "named-login", "find-links", "netrc"]


@pytest.fixture(autouse=True)
def no_proxies_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


def variables(way: str, index: Index, home: Path) -> dict[str, str]:
    """The server's variables for an index with a password, in each of the ways that uv knows."""
    bare = f"{index.address}/simple/"
    if way == "find-links":
        return {"UV_FIND_LINKS": f"{index.url}evil/", "UV_NO_INDEX": "1"}
    if way == "named-login":
        login = {"UV_INDEX_OUR_PACKAGES_USERNAME": "user", "UV_INDEX_OUR_PACKAGES_PASSWORD": SECRET}
        return {"UV_INDEX": f"our-packages={bare}", **login}
    if way == "netrc":
        (home / "netrc").write_text(f"machine 127.0.0.1 login user password {SECRET}\n")
        (home / "netrc").chmod(0o600)
        return {"UV_DEFAULT_INDEX": bare, "NETRC": str(home / "netrc")}
    names = {"index-url": "UV_INDEX_URL", "extra-index-url": "UV_EXTRA_INDEX_URL", "named": "UV_INDEX"}
    return {names.get(way, "UV_DEFAULT_INDEX"): ("ours=" if way == "named" else "") + index.url}


@pytest.mark.parametrize("way", WAYS)
def test_a_build_and_a_job_find_no_credentials_anywhere(tmp_path, monkeypatch, way):
    """A source distribution from the index itself: its build looks at whatever it can read."""
    place, packages = tmp_path / "snooped", tmp_path / "packages"
    packages.mkdir()
    with Index(packages, credentials=f"user:{SECRET}") as index:
        for name, value in variables(way, index, tmp_path).items():
            monkeypatch.setenv(name, value)
        with Bench(tmp_path / "bench") as bench:
            snoop = SNOOP.format(job=f"{bench.settings.root}/clients/airflow/jobs/*", place=place)
            write_sdist(packages, "evil", snoop)
            job = bench.submit(
                SNOOP.format(job="..", place=place), files={"requirements.txt": "evil\n"}, command=INSTALL
            )
            job = bench.wait(job, timeout=300)
            assert job.state == "SUCCESSFUL", bench.log(job)
            assert "evil==1.0" in bench.log(job)
            spec = (job.directory / "spec.json").read_text()
            assert "requirements" in spec
            assert SECRET not in spec
            assert SECRET not in bench.log(job)
            text = place.read_text()
            assert text.count("JOB_DIRECTORY") >= 2  # the build's and the training's
            assert "{relay}" not in text.partition("spec.json")[0]
            assert SECRET not in text
            assert files_with(bench.settings.root, SECRET.encode()) == []


def test_the_cache_of_packages_serves_the_next_environment(tmp_path, monkeypatch):
    """An index with credentials is asked what one without them is asked; an index of its own each time asks more."""
    asked = {}
    write_wheel(tmp_path, "tiny")
    for credentials in ("", f"user:{SECRET}"):
        with Index(tmp_path, credentials=credentials) as index:
            monkeypatch.setenv("UV_DEFAULT_INDEX", index.url)
            with Bench(tmp_path / f"bench{bool(credentials)}") as bench:
                for text in ("tiny\n", "tiny # again\n"):
                    index.asked.clear()
                    job = bench.wait(bench.submit(files={"requirements.txt": text}), timeout=300)
                    assert job.state == "SUCCESSFUL", bench.log(job)
                    assert "+ tiny==1.0" in bench.log(job)
                    asked[text, bool(credentials)] = sorted(index.asked)
    assert asked["tiny # again\n", True] == asked["tiny # again\n", False]
    assert len(asked["tiny # again\n", True]) < len(asked["tiny\n", True])


@pytest.mark.parametrize("environment", [{}, {"NO_PROXY": "localhost"}, {"UV_INSECURE_HOST": "localhost"}])
def test_an_index_with_tls_that_names_whole_addresses(tmp_path, monkeypatch, environment):
    authority = Authority(tmp_path / "authority")
    write_wheel(tmp_path, "tiny")
    with Index(tmp_path, f"user:{SECRET}", tls=authority.server_context()) as index:
        monkeypatch.setenv("UV_DEFAULT_INDEX", index.url)
        if "UV_INSECURE_HOST" not in environment:
            monkeypatch.setenv("SSL_CERT_FILE", str(authority.bundle))
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        with Bench(tmp_path / "bench") as bench:
            job = bench.wait(bench.submit("import tiny", files={"requirements.txt": "tiny\n"}), timeout=300)
            assert job.state == "SUCCESSFUL", bench.log(job)
    assert {"/simple/tiny/", "/moved/tiny-1.0-py3-none-any.whl", "/files/tiny-1.0-py3-none-any.whl"} <= {*index.asked}


def test_a_proxy_with_credentials_is_used_and_not_shown(tmp_path, monkeypatch):
    """Index and proxy are one here: a proxy is asked for whole addresses."""
    write_wheel(tmp_path, "tiny")
    with Index(tmp_path) as index:
        monkeypatch.setenv("UV_DEFAULT_INDEX", "http://packages.example/simple/")
        monkeypatch.setenv("HTTP_PROXY", index.address.replace("//", f"//me:{SECRET}@"))
        with Bench(tmp_path / "bench") as bench:
            job = bench.wait(bench.submit("import tiny", files={"requirements.txt": "tiny\n"}), timeout=300)
            assert "http://packages.example/simple/tiny/" in index.asked, bench.log(job)
            assert job.state == "SUCCESSFUL", bench.log(job)
            assert index.logins == {"Basic " + base64.b64encode(f"me:{SECRET}".encode()).decode()}
            assert SECRET not in (job.directory / "spec.json").read_text() + bench.log(job)


def test_a_wrong_password_is_told_in_the_log_with_the_address_and_without_it(tmp_path, monkeypatch):
    with Index(tmp_path, credentials="user:another") as index:
        monkeypatch.setenv("UV_DEFAULT_INDEX", index.url.replace("another", SECRET))
        with Bench(tmp_path / "bench") as bench:
            job = bench.wait(bench.submit(files={"requirements.txt": "tiny\n"}), timeout=300)
            assert (job.state, job.reason) == ("FAILED", "EnvironmentFailed")
            assert index.address in bench.log(job)
            assert "401" in bench.log(job)
            assert SECRET not in bench.log(job)


def test_without_credentials_there_is_no_relay():
    given = {"UV_INDEX_URL": "https://index/simple", "https_proxy": "http://proxy:3128", "NO_PROXY": "a"}
    assert installer(given).variables == given
    assert installer(given).credentials == ""


def test_every_address_with_a_login_is_parted():
    given = {
        "UV_INDEX": "a=https://u:p%40ss@one.example/simple/ https://two.example:8443/x/",
        "UV_CONSTRAINT": "https://u:s3@one.example/constraints.txt",
        "UV_INSECURE_HOST": "two.example",
        "HTTPS_PROXY": "http://me:proxysecret@proxy:3128",
        "no_proxy": "one.example",
    }
    parted = installer(given)
    assert parted.variables["UV_INDEX"] == "a=http://one.example:443/simple/ https://two.example:8443/x/"
    assert parted.variables["UV_CONSTRAINT"] == "http://one.example:443/constraints.txt"
    assert parted.variables["HTTPS_PROXY"] == parted.variables["http_proxy"] == RELAY
    assert "no_proxy" not in parted.variables
    for secret in ("ss@", "%40", "s3", "proxysecret"):
        assert secret not in json.dumps(parted.variables)
    told = json.loads(parted.credentials)
    assert told["proxies"]["https"] == given["HTTPS_PROXY"]
    assert [login["path"] for login in told["realms"]["https://one.example:443"]["logins"]] == [
        "/simple/",
        "/constraints.txt",
    ]


def test_a_proxy_in_lower_case_is_meant_where_both_are_set():
    """As with uv and curl, whatever the order of the variables."""
    upper, lower = ("HTTPS_PROXY", "http://one:3128"), ("https_proxy", "http://me:secret@two:3128")
    for order in ([upper, lower], [lower, upper]):
        assert json.loads(installer(dict(order)).credentials)["proxies"]["https"] == lower[1]


def test_a_socks_proxy_with_credentials_is_refused():
    with pytest.raises(SettingsError, match="ALL_PROXY cannot be a SOCKS proxy"):
        installer({"ALL_PROXY": "socks5://me:secret@proxy"})


def test_the_credentials_are_for_the_index_and_what_it_names_alone():
    realm = Realm("https://h:443", [{"path": "/simple/", "authorization": "A"}])
    assert realm.authorization("/simple/six/") == "A"
    for path in ("/", "/admin", "/simple/../admin", "/simple/%2e%2e/admin", "/simplex/", "/files/six.whl"):
        assert realm.authorization(path) is None, path
    page = b'<a href="https://h/files/six.whl#sha256=1">x</a> {"url": "https://h:443/files/a.whl"} https://hh/'
    assert b'"http://h:443/files/six.whl#' in realm.rewrite(page)
    assert b'"http://h:443/files/a.whl"' in realm.rewrite(page)
    assert b"https://hh/" in realm.rewrite(page)
    realm.take_links("https://h:443/simple/six/", ["../../files/six.whl#x", "https://other/b.whl"], "A")
    assert realm.authorization("/files/six.whl") == realm.authorization("/files/six.whl.metadata") == "A"
    assert realm.authorization("/b.whl") is None
