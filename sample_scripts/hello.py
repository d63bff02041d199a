"""The smallest job: say which run this is."""

import os

slot = os.environ.get("JOBKIT_SCHEDULED_FOR") or "no slot: it was started by hand"
print(f"Hello from run {os.environ.get('JOBKIT_RUN_ID', '?')}.")
print(f"Attempt {os.environ.get('JOBKIT_ATTEMPT', '?')}, slot {slot}.")
