"""Tests of the factor register."""
