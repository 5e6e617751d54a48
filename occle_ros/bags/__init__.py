"""Bags and data sets as messages: converter, player, recorder, reader of synchronised messages."""
