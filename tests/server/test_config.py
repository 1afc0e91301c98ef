# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import argparse
import dataclasses
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_jobapi.server import config, machine
from airflow_provider_jobapi.server.config import Settings, SettingsError


def load(environ: dict[str, str] | None = None, **options: str) -> Settings:
    return Settings.load(options, environ or {})


def test_settings_have_defaults():
    settings = load()
    assert settings.host == "127.0.0.1"
    assert settings.port == 8787
    assert settings.storage_bound == 20 * 10**9
    assert settings.cpus == machine.cpus() >= 1
    assert settings.memory == machine.memory() > 100
    assert settings.root.is_absolute()


def test_an_option_wins_over_its_variable():
    assert load({"JOBAPI_PORT": "1"}).port == 1
    assert load({"JOBAPI_PORT": "1"}, port="2").port == 2


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("root", "~/x", Path("~/x").expanduser()),
        ("token_lifetime", "90 minutes", timedelta(minutes=90)),
        ("retention", "30d", timedelta(days=30)),
        ("storage_bound", "1.5GB", 1_500_000_000),
        ("storage_bound", "512MiB", 512 * 2**20),
        ("storage_bound", "4096", 4096),
        ("users", "200000-200099", (200000, 200099)),
        ("job_env", "HTTP_PROXY, HF_TOKEN", ("HTTP_PROXY", "HF_TOKEN")),
        ("insecure", "yes", True),
        ("insecure", "0", False),
        ("python", "/usr/bin/python3", (Path("/usr/bin/python3"),)),
    ],
)
def test_a_setting_is_read(name, text, value, monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert getattr(load(**{name: text}), name) == value
    assert getattr(load({f"JOBAPI_{name.upper()}": text}), name) == value


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("port", "http", "a whole number from 0 to 65535"),
        ("port", "65536", "a whole number from 0 to 65535"),
        ("cpus", "0", "from 1"),
        ("cpus", "-1", "from 1"),
        ("grace", "soon", "a span of time"),
        ("storage_bound", "lots", "a size, such as 20GB"),
        ("storage_bound", "-5", "a size, such as 20GB"),
        ("users", "1000", "a range of user ids"),
        ("users", "0-5", "a range of user ids above 0"),
        ("users", "9-5", "a range of user ids"),
        ("job_env", "A,JOBAPI_ROOT", "JOBAPI_ROOT"),
        ("job_env", "A=b", "a list of variable names"),
        ("trust_all_clients", "perhaps", "1 or 0"),
    ],
)
def test_a_setting_that_cannot_be_read_is_named(name, text, said):
    with pytest.raises(SettingsError) as option:
        load(**{name: text})
    assert str(option.value).startswith(f"--{name.replace('_', '-')} cannot be '{text}': ")
    assert said in str(option.value)
    with pytest.raises(SettingsError, match=f"JOBAPI_{name.upper()} cannot be"):
        load({f"JOBAPI_{name.upper()}": text})


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.1.2.3"])
def test_a_loopback_address_needs_no_tls(host):
    assert load(host=host).host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "jobs.example.com"])
def test_a_network_address_needs_the_insecure_option(host):
    with pytest.raises(SettingsError, match=r"plain text: .*TLS in front, or pass --insecure"):
        load(host=host)
    assert load(host=host, insecure="1").host == host


def test_users_need_root(monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(SettingsError, match="--users needs root"):
        load(users="200000-200099")


@pytest.mark.parametrize("url", ["jobs.example.com", "ftp://x", "https://", "https://x/?a=b", "https://x y"])
def test_an_invalid_url_is_refused(url):
    with pytest.raises(SettingsError, match="--url cannot be"):
        load(url=url)


def test_every_setting_has_an_option_a_variable_and_help():
    parser = argparse.ArgumentParser()
    config.add_options(parser)
    text = " ".join(parser.format_help().split())
    for each in dataclasses.fields(Settings):
        assert f"--{each.name.replace('_', '-')}" in text
        assert f"[JOBAPI_{each.name.upper()}]" in text.replace("[ ", "[")
    assert "(20.0 GB)" in text


def test_options_on_the_command_line_reach_the_settings():
    parser = argparse.ArgumentParser()
    config.add_options(parser)
    given = vars(parser.parse_args(["--port", "5", "--insecure", "--job-env", "A"]))
    settings = Settings.load(given, {})
    assert (settings.port, settings.insecure, settings.job_env) == (5, True, ("A",))


@given(st.integers(0, 10**18 - 1))
def test_a_size_in_bytes_is_that_size(size):
    assert config._size(str(size)) == size


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (20 * 10**9, "20.0 GB"), (3e12, "3.0 TB")]
)
def test_a_size_is_formatted(size, text):
    assert config.size_text(size) == text


def test_package_indexes_are_names_and_addresses():
    text = "pytorch=https://download.pytorch.org/whl/cpu, wheels=/srv/wheels"
    wanted = (("pytorch", "https://download.pytorch.org/whl/cpu"), ("wheels", "/srv/wheels"))
    assert load(allow_index=text).allow_index == wanted
    parser = argparse.ArgumentParser()
    config.add_options(parser)
    one, two = text.split(", ")
    given = vars(parser.parse_args(["--allow-index", one, "--allow-index", two]))
    assert Settings.load(given, {}).allow_index == wanted
    assert load({"JOBAPI_INDEX": "ours=https://me:secret@x/simple"}).index == "ours=https://me:secret@x/simple"


@pytest.mark.parametrize(
    "text", ["pytorch", "a=b", "=https://x", "a=https://x b", "a=https://x,a=https://y", "a=file:///x"]
)
def test_package_indexes_that_are_none(text):
    with pytest.raises(SettingsError, match="--allow-index cannot be"):
        load(allow_index=text)


@pytest.mark.parametrize("name", ["index", "allow_index"])
def test_a_password_on_the_command_line_is_refused_and_not_shown(name):
    with pytest.raises(SettingsError, match="which every user of this machine can read") as caught:
        load(**{name: "ours=https://me:s3cr3t@x/simple"})
    assert "s3cr3t" not in str(caught.value)
    with pytest.raises(SettingsError, match="JOBAPI_INDEX cannot be") as caught:
        load({"JOBAPI_INDEX": "no address https://me:s3cr3t@x/simple"})
    assert "s3cr3t" not in str(caught.value)
