"""Commands for recordings without labels."""
