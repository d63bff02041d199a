"""Executors: run a program as a child, stream what it prints, leave nothing behind."""
