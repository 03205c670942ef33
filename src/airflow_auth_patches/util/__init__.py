"""Helpers for every package: errors, processes, files, git and terminal output."""
