"""Services in the care of a real systemd: a person's, in a mount namespace of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from jobkit.kit import connect
from tests.test_processes import alive, script, until

MANAGER = Path("/usr/lib/systemd/systemd")
# The world that systemd looks for: it does not start where none seems to have booted.
WORLD = """
mount --make-rprivate / && mount -t tmpfs tmpfs /run || exit 77
mkdir -p /run/systemd/system /run/user/0
export XDG_RUNTIME_DIR=/run/user/0
"$1" --user --log-target=null &
manager=$!
trap 'kill $manager; wait $manager' EXIT
for _ in $(seq 100); do
    systemctl --user is-system-running >/dev/null 2>&1 && break
    kill -0 $manager 2>/dev/null || exit 77
    sleep 0.1
done
systemctl --user is-system-running >/dev/null 2>&1 || exit 77
"$2" -m jobkit service install && touch installed || exit 1
until [ -e stop ]; do sleep 0.1; done
"$2" -m jobkit service status && "$2" -m jobkit service uninstall
"""
STUBBORN = "#!/bin/sh\ntrap '' TERM\necho $$ > pid\nwhile :; do sleep 1; done\n"


def test_systemd_starts_the_programs_and_lets_a_worker_give_back_its_run(
    workplace: Path, tmp_path: Path
) -> None:
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    if not (is_root and MANAGER.exists() and shutil.which("unshare")):
        pytest.skip("it takes root, systemd and unshare to start a systemd of one's own")
    home = tmp_path / "home"
    home.mkdir()
    url = f"sqlite:///{tmp_path / 'services.db'}"
    settings = {"JOBKIT_DB_URL": url, "JOBKIT_PORT": "0", "JOBKIT_SHUTDOWN_GRACE_SECONDS": "0.5"}
    with connect(url) as kit:
        kit.add_job("stubborn", script(workplace, "stubborn.sh", STUBBORN), retries=0)
        run = kit.submit("stubborn")
        world = subprocess.Popen(
            ["unshare", "-m", "sh", "-c", WORLD, "world", MANAGER, sys.executable],
            env=os.environ | settings | {"HOME": str(home), "JOBKIT_KILL_GRACE_SECONDS": "0.5"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            until(lambda: _is_written(workplace / "pid") or world.poll() is not None)
            if world.poll() == 77:
                pytest.skip("systemd does not start here")
            (workplace / "stop").touch()
            said, _ = world.communicate(timeout=120)
        finally:
            world.terminate()
            world.wait()
        assert world.returncode == 0, said
        assert {line.split()[1] for line in said.splitlines() if line.startswith("runs ")} == {
            "job-worker@1.service", "jobkit-portal.service", "jobkit-scheduler.service",
        }, said  # fmt: skip
        assert not alive(int((workplace / "pid").read_text()))
        assert run.refresh().status == "PENDING"
        assert [it.status for it in run.attempts()] == ["RELEASED"]
        assert {it.status for it in kit.workers()} == {"OFFLINE"}
    assert [path for path in home.rglob("*.service") if path.exists()] == []


def _is_written(path: Path) -> bool:
    return path.exists() and bool(path.read_text().strip())
