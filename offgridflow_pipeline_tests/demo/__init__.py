"""Tests of the generated bills: deterministic, in the providers' layouts, with every kind of row."""
