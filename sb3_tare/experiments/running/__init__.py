"""Jobs of a study: run, resumed, and kept as files."""
