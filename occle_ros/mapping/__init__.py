"""The rolling map in the live node."""
