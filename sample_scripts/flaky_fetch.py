"""A source that is not there at first: fails on the first attempt, recovers on the retry."""

import os
import sys

attempt = int(os.environ.get("JOBKIT_ATTEMPT", "1"))
print("Fetching the exchange rates …")
if attempt == 1:
    print("The source answered 503, service unavailable.", file=sys.stderr)
    sys.exit(1)
print(f"Fetched 42 rates on attempt {attempt}.")
