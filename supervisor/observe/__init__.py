"""What can be seen from outside: log events, counts of them, the tree of our processes."""
