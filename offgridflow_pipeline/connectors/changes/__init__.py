"""What is new at a source, which days it touches, which days differ from the committed ones, and which are missing.

What becomes of a change is recorded in `database.changes`.
"""
