"""Synchronisation of scans and images."""
