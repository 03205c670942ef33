"""Real API servers on real databases: booted, driven over HTTP, observed and stopped."""
