"""The rules of upstream's hooks and reviewers, with a module for each kind of file."""
