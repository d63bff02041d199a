"""Questions about the past: what ran, when, how long, and why not."""
