# SPDX-License-Identifier: Apache-2.0
"""What one line of a log measures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Measured:
    """The metrics of one line.

    :ivar values: The values by name, in their order.
    :ivar step: Where the training is by this line, None where it does not say it.
    :ivar rule: The name of the rule that has read the line; empty where none has.
    :ivar loop: The number of the loop that the line belongs to: a fit that is repeated begins another one.
    :ivar inherited: Whether the step is that of a line before, so that several lines may have it.
    :ivar redrawn: Whether the line is a state of a progress bar, which draws the same place again.
    :ivar validated: Where the validation was whose values a bar of the training shows; None where the line's step is.
    :ivar summary: Whether the line stands below a title like "Results", and may repeat what was printed before.
    """

    values: Mapping[str, float]
    step: float | None
    rule: str = field(default="", compare=False)
    loop: int = field(default=0, compare=False)
    inherited: bool = field(default=False, compare=False)
    redrawn: bool = field(default=False, compare=False)
    summary: bool = field(default=False, compare=False)
    validated: float | None = field(default=None, compare=False)
