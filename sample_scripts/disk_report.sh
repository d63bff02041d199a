#!/bin/sh
# How full is this machine? The three largest file systems, and what lies here.
set -eu
echo "Disks on $(uname -n), $(date -u +%Y-%m-%dT%H:%MZ)"
df -kP | awk 'NR > 1 { printf "%5.1f GB of %6.1f GB used  %s\n", $3 / 1e6, $2 / 1e6, $6 }' | sort -rn | head -n 3
echo
echo "Files in this folder: $(find . -maxdepth 1 -type f | wc -l | tr -d ' ')"
