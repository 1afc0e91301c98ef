# SPDX-License-Identifier: Apache-2.0
"""The form fields of a connection for Airflow 3.1, made of the same ``conn-fields`` that later versions read."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_LIBRARIES = ("flask_appbuilder.fieldwidgets", "flask_babel", "wtforms", "wtforms.validators")
"""Not ours to install: Airflow has them, or puts something of its own in their places."""


def widgets(conn_type: str) -> dict[str, Any]:
    """The fields of a connection type, by name; none where the libraries of the old form are not installed."""
    try:
        fab, babel, wtforms, validators = (import_module(name) for name in _LIBRARIES)
    except ImportError:
        return {}

    from airflow_provider_jobapi.get_provider_info import connection_fields

    made: dict[str, Any] = {}
    for name, field in connection_fields(conn_type).items():
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
