"""The patch files: read, chosen, applied as hunks, laid out as a git tree and written back from it."""
