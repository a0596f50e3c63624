"""Sensors: short ticks that read the database and never a cloud."""
