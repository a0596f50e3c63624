"""Own taxonomy, Inline XBRL and xBRL-XML writers, and the gate that validates them in a subprocess.

Element names are data (ogf_ghg/*.csv and profiles/*.json). Arelle is never imported here.
"""
