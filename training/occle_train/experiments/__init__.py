"""Experiments of the papers, in presets from a laptop to a GPU."""
