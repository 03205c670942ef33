"""The pinned releases: what is known of each, their files from the package index, and how one is added."""
