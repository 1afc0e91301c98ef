# SPDX-License-Identifier: Apache-2.0
"""Files that go to a service and come back: stores, sources, transfers, destinations."""
