"""Meshes of what stands in a street, and their materials."""
