"""Processes, signals, environment and shipped files."""
