"""Notebooks as jobs: how they end early, what is kept of them, and how long their cells take."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from jobkit import BadInput
from jobkit.kit import Kit
from jobkit.store import keepsakes
from tests.stage import Stage, work_once
