"""A page by which a person judges recordings and their pseudo-labels before a training."""
