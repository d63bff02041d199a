"""Questions about the history, answered over the tables and the archive as one."""
