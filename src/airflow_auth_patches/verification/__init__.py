"""What is proven: the lint of the series, the tests of each patch, reproducers, upstream's tests, matrix."""
