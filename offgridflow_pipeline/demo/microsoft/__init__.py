"""Azure bills of the demonstration: the FOCUS export, and cost details (actual, amortized; EA, MCA)."""
