"""The pinned releases: their metadata, their files from the package index, and how to pin a new one."""
