"""Commands: offline run, doctor, demo, launch plan, generated pages."""
