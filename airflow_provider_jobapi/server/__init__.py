# SPDX-License-Identifier: Apache-2.0
"""The jobAPI server: a real, small service that runs training jobs on one machine.

It knows the vocabulary of ``training/`` and neither Airflow nor the provider's clients.
"""
