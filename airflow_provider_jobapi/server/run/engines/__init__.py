# SPDX-License-Identifier: Apache-2.0
"""Where jobs run. An engine places a job, cancels it, and says whether it is alive; the supervisor does the rest."""
