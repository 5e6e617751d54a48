"""`occle view`: bags, recordings and the running node as sources of the viewers."""
