# SPDX-License-Identifier: Apache-2.0
"""ModelArts of Huawei Cloud and of Open Telekom Cloud as a training service, in both dialects of its API."""
