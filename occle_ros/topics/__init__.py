"""The topics that the node reads and writes, and their QoS."""
