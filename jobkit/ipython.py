"""IPython, where this process is one; it is never imported for that."""

from __future__ import annotations

import sys
from typing import Any


def shell() -> Any:
    """Return the IPython shell that this runs in, None elsewhere."""
    module = sys.modules.get("IPython")
    return module.get_ipython() if module is not None and hasattr(module, "get_ipython") else None
