# SPDX-License-Identifier: Apache-2.0
"""An Airflow provider that runs training jobs as processes of this machine, in a folder."""
