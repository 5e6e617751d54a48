"""Experiments of the papers, at a scale that can be chosen."""
