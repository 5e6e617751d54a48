"""Writers of data sets' layouts on disk."""
