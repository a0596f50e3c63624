"""The carbon method ofg-1: usage lines and a pinned factor set become ledger lines.

`classify` decides what a usage key stands for (rules are data), `intensity` turns that into kWh and kg per
unit in decimals, `calculate` multiplies them with every line exactly, `totals` adds up. Pure functions.
"""
