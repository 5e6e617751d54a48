"""Training of the networks: data, simulator, losses, metrics, fitting. Imports occle_core only."""
