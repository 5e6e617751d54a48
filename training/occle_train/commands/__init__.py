"""What `occle-train` can do, a file per command."""
