# SPDX-License-Identifier: Apache-2.0
"""The connection form of Airflow 3.1, made from the same fields as the ``conn-fields`` that later versions read."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_jobapi.services.fields import ConnectionSettings

_LIBRARIES = ("flask_appbuilder.fieldwidgets", "flask_babel", "wtforms", "wtforms.validators")
"""Airflow 3.1 installs these libraries, or replaces them by mocks while it reads the form."""


def widgets(connection: type[ConnectionSettings]) -> dict[str, Any]:
    """Make the form fields of a connection by key; empty where the form's libraries are not installed."""
    try:
        fab, babel, wtforms, validators = (import_module(name) for name in _LIBRARIES)
    except ImportError:
        return {}

    made: dict[str, Any] = {}
    for name, field in connection.conn_fields().items():
        schema = field["schema"]
        if schema.get("format") == "password":
            kind, widget = wtforms.PasswordField, fab.BS3PasswordFieldWidget
        else:
            kinds = {"boolean": (wtforms.BooleanField, None), "integer": (wtforms.IntegerField, fab.BS3TextFieldWidget)}
            kind, widget = kinds.get(schema["type"][0], (wtforms.StringField, fab.BS3TextFieldWidget))
        made[name] = kind(
            babel.lazy_gettext(field["label"]),
            validators=[validators.Optional(), *([validators.any_of(schema["enum"])] if "enum" in schema else [])],
            description=field["description"],
            default=schema.get("default"),
            **({"widget": widget()} if widget else {}),
        )
    return made
