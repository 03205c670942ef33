"""What every package uses: errors, programs, files, git, the disk, locks, and what a terminal shows."""
