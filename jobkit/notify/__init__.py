"""Telling people: the channels of a scheduler, and who sends to them beside its loop.

Light to import: Apprise and the ways out are loaded where something is sent.
"""

from jobkit.notify.channels import Channel, channels
from jobkit.notify.pinger import Pinger
from jobkit.notify.postman import Postman

__all__ = ["Channel", "Pinger", "Postman", "channels"]
