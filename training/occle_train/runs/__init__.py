"""Run folders: what a training writes, from its options to its report."""
