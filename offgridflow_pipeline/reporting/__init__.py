"""From a month's inventory to facts, and from facts to artefacts: PDF, Inline XBRL, xBRL-XML and data pack.

Every artefact prints `report_facts` and nothing else, so a figure has one value, one rounding and one id
everywhere. Nothing here reads the lake or classifies a row.
"""
