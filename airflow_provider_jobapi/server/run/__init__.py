# SPDX-License-Identifier: Apache-2.0
"""How the server runs jobs: admission, preparation, engines, the supervisor, and the verdict."""
