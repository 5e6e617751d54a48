"""Recordings of any rig: bags, and occle sequences."""
