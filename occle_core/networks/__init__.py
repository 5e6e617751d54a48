"""The networks, and the protocol that all of them answer."""
