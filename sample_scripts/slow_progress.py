"""A slow load that shows its progress: `slow_progress.py [steps] [seconds per step]`."""

import sys
import time

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 20
pause = float(sys.argv[2]) if len(sys.argv) > 2 else 1.0
for step in range(1, steps + 1):
    time.sleep(pause)
    bar = "█" * (20 * step // steps)
    print(f"{bar:20} {100 * step // steps:3d} %  part {step} of {steps}")
print("Loaded.")
