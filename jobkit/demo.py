"""The demo: sample scripts in the current folder, and jobs that run them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from jobkit.kit import Kit

FOLDER = "sample_scripts"
HERE = Path(__file__).parent
JOBS: tuple[tuple[str, str, tuple[str, ...], dict[str, Any]], ...] = (
    ("hello", "hello.py", (), {"every": "30s"}),
    ("flaky fetch", "flaky_fetch.py", (), {"every": "2m", "retry_delay": "10s", "retries": 2}),
    ("slow load", "slow_progress.py", ("20", "1"), {"every": "3m", "overlap": "queue"}),
    ("disk report", "disk_report.sh", (), {"cron": "*/5 * * * *"}),
    ("make sales", "make_sales.py", (), {"daily": "05:30"}),
    ("best regions", "sales_query.py", (), {"cron": "*/10 * * * *", "timeout": "1m"}),
    ("daily report", "daily_report.py", (), {"daily": "06:30"}),
)


def install(kit: Kit) -> None:
    """Put the sample scripts here and add the jobs that are not there yet; each runs once."""
    _copy_scripts(Path.cwd() / FOLDER)
    known = {job.name for job in kit.jobs}
    for name, script, args, definition in JOBS:
        if name not in known:
            kit.add_job(name, f"{FOLDER}/{script}", *args, **definition)
            kit.submit(name)


def _copy_scripts(folder: Path) -> None:
    """Copy what is missing; what somebody changed stays."""
    source = HERE / FOLDER if (HERE / FOLDER).is_dir() else HERE.parent / FOLDER
    if folder.resolve() == source.resolve():
        return
    folder.mkdir(exist_ok=True)
    for script in sorted(source.iterdir()):
        if script.is_file() and not (folder / script.name).exists():
            shutil.copy2(script, folder / script.name)
