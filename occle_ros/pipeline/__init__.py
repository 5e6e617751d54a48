"""Pipeline from synchronised messages to an Occupancy, shared by the live node and offline runs."""
