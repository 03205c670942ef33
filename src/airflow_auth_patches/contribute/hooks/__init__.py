"""What upstream's hooks and reviewers would say of our files, a room for each kind of file."""
