"""Helpers for every package: errors, processes, files, git, disk usage, locks and terminal output."""
