"""What the node refuses from a topic: a slug to count by, and a sentence for the person."""

from __future__ import annotations

from siamkd_core.errors import SiamkdError

REFUSED = "box refused"
"""How the status's reason begins where a box is not taken."""


class Rejected(SiamkdError):
    """An image or box that is not used. It costs the node neither its life nor its target.

    Attributes:
        reason: a short slug out of a fixed set, the key of its counter in /diagnostics.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
