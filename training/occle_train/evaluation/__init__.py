"""Evaluation of bundles, export with its parity gate, and tables."""
