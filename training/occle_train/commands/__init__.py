"""Commands of `occle-train`, a file each."""
