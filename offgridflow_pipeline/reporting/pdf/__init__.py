"""The report as PDF/A-3b: cover, charts, tables, fact index and the archive finish.

Prints values of `report_facts` only; nothing is computed, rounded or classified here.
"""
