# SPDX-License-Identifier: Apache-2.0
"""Print what importing an operator costs a DAG file, beside the Amazon SageMaker operator where that is installed."""

from __future__ import annotations

from statistics import median

from tests.benchmarks.imports import cost

OPERATORS = {
    "SubmitTrainingOperator": "from airflow_provider_jobapi.operators.training import SubmitTrainingOperator",
    "FetchSavedModelOperator": "from airflow_provider_jobapi.operators.model import FetchSavedModelOperator",
    "SageMakerTrainingOperator": (
        "from airflow.providers.amazon.aws.operators.sagemaker import SageMakerTrainingOperator"
    ),
}
RUNS = 7


def main() -> None:
    """Print the table."""
    print(f"{'imported after airflow.sdk':28} {'modules':>8} {'ms (median of ' + str(RUNS) + ')':>18}")
    for name, statement in OPERATORS.items():
        costs = [cost(statement) for _ in range(RUNS)]
        if costs[0] is None:
            print(f"{name:28} {'not installed':>27}")
            continue
        print(f"{name:28} {len(costs[0].modules):>8} {median(each.milliseconds for each in costs if each):>18.1f}")


if __name__ == "__main__":
    main()
