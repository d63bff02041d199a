"""Every statement on jobs, runs, attempts and workers: functions of (connection, now, rng)."""
