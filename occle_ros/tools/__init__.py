"""Commands: offline run, doctor, demo, generated pages."""
