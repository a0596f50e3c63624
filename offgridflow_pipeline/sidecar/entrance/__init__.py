"""The way in: what happens to a request before its handler works, who calls, and how it is refused."""
