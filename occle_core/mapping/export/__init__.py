"""Exports of the map: nav2 map files, OctoMap, PLY."""
