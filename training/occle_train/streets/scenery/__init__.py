"""Layout and contents of a street."""
