"""Teaching the network: data, simulator, losses, metrics, fitting. Imports occle_core only."""
