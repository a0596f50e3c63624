"""The server itself: where it runs, its roles and migrations, and the proof that its tables are guarded."""
