"""What is raised where a notice could not be sent."""

from __future__ import annotations


class Undelivered(Exception):
    """A notice was not sent; the words say why, and hold no secret."""
