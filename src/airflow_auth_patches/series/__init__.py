"""The patch files: read them, choose and apply them, import them into a git tree and export them again."""
