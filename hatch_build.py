"""Ship htmx with the wheel: taken from the build requirement django-htmx, which users never get."""

import hashlib
import importlib.util
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SHA256 = "71ea67185bfa8c98c39d31717c6fce5d852370fcdfd129db4543774d3145c0de"  # htmx 2.0.10
SHIPPED_AS = "jobkit_vendor/htmx.min.js"


class HtmxHook(BuildHookInterface):
    """Adds the file to wheels, editable ones too, after checking what it is."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        found = importlib.util.find_spec("django_htmx")
        if found is None or found.origin is None:
            raise RuntimeError("The build needs django-htmx==1.29.0, which brings htmx.")
        path = Path(found.origin).parent / "static" / "django_htmx" / "htmx-2.min.js"
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if digest != SHA256:
            raise RuntimeError(
                f"{path} is not htmx 2.0.10: its SHA-256 is {digest}. "
                "Build with django-htmx==1.29.0, or change SHA256 with the version."
            )
        wanted = "force_include_editable" if version == "editable" else "force_include"
        build_data.setdefault(wanted, {})[str(path)] = SHIPPED_AS
