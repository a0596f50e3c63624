"""Real servers for tests: PostgreSQL, an S3 server. Each is started on free ports and ends with its session."""
