# SPDX-License-Identifier: Apache-2.0
"""The fields of a connection. Each is described once, beside the function that checks it.

The form in Airflow's UI, the provider info and the tables in the documentation are made from these descriptions. A
model of a service's connection derives from :class:`ConnectionSettings`::

    @dataclass(frozen=True, slots=True, kw_only=True)
    class MyConnection(ConnectionSettings):
        url: str = host("Address", "The address of the service, such as https://my.example.com.")
        queue: str = setting("Queue", "The queue that jobs wait in.", default="main")

Airflow imports this module when it starts, so it imports nothing but the standard library.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from airflow_provider_jobapi.exceptions import ConnectionProblem
from airflow_provider_jobapi.services import settings
from airflow_provider_jobapi.services.settings import Reader

_METADATA = "connection field"
_STANDARD = ("host", "login", "password")
"""Fields that every Airflow connection has; all others are keys of the connection's extra."""

NO_PORT = "Port (enter 0)"
"""The label of the port where a service has none. Airflow's page sends 0 to test a stored connection, and refuses the
test of one whose port is empty. So the field is not hidden, and 0 makes the test work."""


@dataclass(frozen=True, slots=True)
class Field:
    """What a field of a connection means and how its value is read.

    :ivar key: A key of the extra, or ``host``, ``login`` or ``password``.
    :ivar also: Another key of the extra that means the same; empty for none.
    :ivar label: The field's name in the form.
    :ivar description: Sentences for the form and the documentation. The first begins with "The" where the field is
        required, since the error for a missing field quotes it.
    :ivar read: Checks and converts what the user entered.
    :ivar default: The value of an empty field, or a function that makes it from the values of the fields before.
    :ivar default_text: The default in words, where it is no constant.
    :ivar required: Whether the field may not be empty.
    :ivar json_type: ``string``, ``boolean``, ``integer`` or ``number``.
    :ivar json_format: ``password`` hides the value in the form, ``url`` lets the form check it.
    :ivar choices: The values that are allowed; empty for any.
    :ivar placeholder: An example that the form shows in an empty field; for ``host`` only.
    """

    key: str
    label: str
    description: str
    read: Reader
    default: Any = None
    default_text: str = ""
    required: bool = False
    json_type: str = "string"
    json_format: str = ""
    choices: Sequence[str] = ()
    placeholder: str = ""
    also: str = ""

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that are read."""
        return (self.key, self.also) if self.also else (self.key,)

    @property
    def in_extra(self) -> bool:
        """Whether Airflow keeps the value in the connection's extra."""
        return self.key not in _STANDARD

    def schema(self) -> dict[str, Any]:
        """The JSON schema of the value, as Airflow's ``conn-fields`` have it."""
        schema: dict[str, Any] = {"type": [self.json_type, "null"]}
        if self.json_format:
            schema["format"] = self.json_format
        if self.choices:
            schema["enum"] = [str(choice) for choice in self.choices]
        if self.default is not None and not callable(self.default):
            schema["default"] = str(self.default) if isinstance(self.default, str) else self.default
        return schema

    def form_text(self) -> str:
        """The description for the form, with what an empty field means where the form does not show it."""
        if self.required:
            return f"{self.description} Required."
        return f"{self.description} If empty: {self.default_text}." if self.default_text else self.description

    def value(self, entered: Mapping[str, Any], values: Mapping[str, Any]) -> Any:
        """Read the field.

        :param entered: What the user entered, by key.
        :param values: The values of the fields before, by the names of their attributes.
        :raises ConnectionProblem: naming the field and saying what is allowed.
        """
        key, *others = [key for key in self.keys if entered.get(key) is not None] or [self.key]
        given = entered.get(key)
        if any(entered[other] != given for other in others):
            raise ConnectionProblem(f"The connection's extra has both {self.key} and {self.also}; keep {self.key}.")
        if self.required and (given is None or (isinstance(given, str) and self.in_extra and not given.strip())):
            place = "The connection's extra" if self.in_extra else "The connection"
            meaning = self.description[:1].lower() + self.description[1:]
            raise ConnectionProblem(f"{place} has no {self.key}: it is {meaning}")
        if given is not None:
            return self.read(key, given)
        return self.read(self.key, self.default(values)) if callable(self.default) else self.default


def setting(
    label: str, description: str, read: Reader = settings.text, *, key: str = "", printable: bool = True, **options: Any
) -> Any:
    """Declare a field that is a key of the connection's extra.

    :param key: The key, where it is not the attribute's name.
    :param printable: False leaves the value out of the model's ``repr``; so does ``json_format="password"``.
    :param options: Further attributes of :class:`Field`.
    """
    shown = printable and options.get("json_format") != "password"
    made = {"key": key, "label": label, "description": description, "read": read, **options}
    return dataclasses.field(repr=shown, metadata={_METADATA: made})


def host(label: str, description: str, placeholder: str = "https://jobs.example.com") -> Any:
    """Declare the field for the service's address. Its value holds scheme and port and no trailing slash."""
    return setting(label, description, settings.entered, key="host", required=True, placeholder=placeholder)


def login(label: str, description: str) -> Any:
    """Declare the field for the user."""
    return setting(label, description, settings.entered, key="login", required=True)


def password(label: str, description: str) -> Any:
    """Declare the field for the user's secret."""
    return setting(label, description, settings.entered, key="password", required=True, printable=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionSettings:
    """The settings of a connection, read and checked. Base of the model of each service."""

    @classmethod
    def of(
        cls,
        *,
        host: str | None = None,
        port: int | None = None,
        schema: str | None = None,
        login: str | None = None,
        password: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> Self:
        """Read a connection from the fields that Airflow keeps.

        :param host: A host such as ``jobs.example.com``, or an address such as ``https://jobs.example.com/base``.
        :param schema: ``http`` or ``https`` (the default), where the host does not contain it.
        :param extra: The extra as an object; empty texts count as not given.
        :raises ConnectionProblem: naming the field and saying what is allowed.
        """
        fields = cls.fields()
        entered = settings.known(
            extra, sorted(key for field in fields.values() if field.in_extra for key in field.keys)
        )
        if host and host.strip():
            keys = [field.key for field in fields.values()]
            if "host" not in keys:  # an address that would be ignored, as of a container engine
                raise ConnectionProblem(
                    "The connection has a host, which its type does not use: remove it, and where the form does not "
                    f"show it, add the connection again. Its fields are in the extra: {', '.join(keys)}."
                )
            entered["host"] = settings.address(host, port, schema)
        entered |= {key: value for key, value in {"login": login, "password": password}.items() if value}
        values: dict[str, Any] = {}
        for attribute, field in fields.items():
            values[attribute] = field.value(entered, values)
        return cls(**values)

    @classmethod
    def fields(cls) -> dict[str, Field]:
        """The fields by the names of their attributes: those of the model itself first, then those of its bases."""
        declared = {each.name: each.metadata.get(_METADATA) for each in dataclasses.fields(cls)}
        names = [name for base in cls.__mro__ for name in inspect.get_annotations(base)]
        return {
            name: Field(**{**given, "key": given["key"] or name})
            for name in dict.fromkeys(names)
            if (given := declared.get(name)) is not None
        }

    @classmethod
    def conn_fields(cls) -> dict[str, dict[str, Any]]:
        """The fields of the extra, as ``conn-fields`` of Airflow's provider info."""
        return {
            field.key: {"label": field.label, "description": field.form_text(), "schema": field.schema()}
            for field in cls.fields().values()
            if field.in_extra
        }

    @classmethod
    def field_behaviour(cls) -> dict[str, Any]:
        """The labels of the standard fields, as ``ui-field-behaviour`` of Airflow's provider info."""
        standard = [field for field in cls.fields().values() if not field.in_extra]
        hidden = [key for key in _STANDARD if key not in {field.key for field in standard}]
        without_port = "host" in hidden
        return {
            "hidden-fields": ["schema", *hidden],
            "relabeling": {field.key: field.label for field in standard} | ({"port": NO_PORT} if without_port else {}),
            "placeholders": {field.key: field.placeholder for field in standard if field.placeholder},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpConnectionSettings(ConnectionSettings):
    """The settings of a connection to a service that is reached by HTTP: TLS, proxy, timeout."""

    verify: bool = setting(
        "Verify TLS",
        "Whether TLS certificates are checked. false accepts any certificate; use it for tests only.",
        settings.boolean,
        default=True,
        json_type="boolean",
    )
    ca_bundle: str | None = setting(
        "CA bundle",
        "A PEM file, on workers and triggerers, with the certificate authorities to trust and no others.",
        settings.file,
        default_text="REQUESTS_CA_BUNDLE, else the public authorities",
    )
    proxy: str | None = setting(
        "Proxy",
        "The HTTP proxy for all requests. It may contain a user and a password.",
        settings.proxy,
        default_text="HTTPS_PROXY and NO_PROXY",
        json_format="password",
    )
    timeout: float = setting(
        "Timeout",
        "Seconds to wait for an answer, at most 3,600.",
        settings.seconds,
        default=30,
        json_type="integer",
    )

    def proxy_for(self, url: str) -> str | None:
        """The proxy for requests to this URL: the connection's own, else the one that the environment names.

        Worker and triggerer both use it, so HTTPS_PROXY and NO_PROXY mean the same to the two.

        :raises ConnectionProblem: for a proxy that does not use HTTP.
        """
        return self.proxy or settings.environment_proxy(url)

    def roots(self) -> str:
        """The PEM file, or directory, of the certificate authorities to trust."""
        return settings.roots(self.ca_bundle)
