"""Generated bills for the demonstration, the tests and the benchmarks: realistic in shape, fictional in content."""
