"""Synchronised messages -> Frame -> Occupancy, for the live node and offline runs alike."""
