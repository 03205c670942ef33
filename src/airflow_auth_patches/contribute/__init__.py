"""A fix on its way upstream: commits, pull requests, backports, checkouts, Breeze, and upstream's lint."""
