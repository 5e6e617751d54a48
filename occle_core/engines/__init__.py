"""Engines: the network in forms that run fast on a machine."""
