# SPDX-License-Identifier: Apache-2.0
"""Add the facts of a model to the asset events of a task's outlets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context

    from airflow_provider_jobapi.services.base import FetchedModel


def add_model_to_events(
    operator: BaseOperator, context: Context, result: Mapping[str, Any], model: FetchedModel | None
) -> None:
    """Add the facts of a model to the events of all assets in the outlets, and its directory to all aliases.

    :param operator: The operator with the outlets.
    :param result: The training task's result.
    :param model: The model, where it was fetched.
    """
    add_facts_to_events(operator, context, model_facts(result, model))


def add_facts_to_events(operator: BaseOperator, context: Context, extra: dict[str, Any]) -> None:
    """Add facts to the events of all assets in the outlets, and an asset at their location to all aliases.

    :param operator: The operator with the outlets.
    :param extra: The facts, as :func:`model_facts` makes them.
    """
    from airflow.sdk import AssetAlias

    for outlet in operator.outlets:
        if isinstance(outlet, AssetAlias):
            _add_to_alias(operator, context, outlet, extra)
            continue
        try:
            event = context["outlet_events"][outlet]
        except TypeError:
            # Outlets may hold objects of lineage tools, which have no events.
            continue
        event.extra = {**event.extra, **extra}


def model_facts(result: Mapping[str, Any], model: FetchedModel | None) -> dict[str, Any]:
    """The facts of a model, as the event's extra holds them.

    :param result: The training task's result; it may hold ``metrics`` and ``data_version``.
    :param model: The model, where it was fetched.
    """
    return {
        "job_id": result["job_id"],
        "location": model and model.location,
        "sha256": model and model.sha256,
        "kind": model.kind if model else result.get("model_kind"),
        "metrics": dict(result.get("metrics") or {}),
        "data_version": result.get("data_version"),
    }


def _add_to_alias(operator: BaseOperator, context: Context, alias: Any, extra: dict[str, Any]) -> None:
    from airflow.sdk import Asset

    if extra["location"] is None:
        operator.log.warning(f"No model was fetched, so the alias {alias.name} gets no asset: set destination.")
        return
    context["outlet_events"][alias].add(Asset(uri=extra["location"]), extra=extra)
