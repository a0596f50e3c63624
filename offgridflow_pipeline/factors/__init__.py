"""The factor register: every coefficient of the method, as versioned, hashed and cited data rows.

`register` loads the pinned set, `selection` picks grid, PUE and upstream figures by usage date and
knowledge date, `hardware` looks up instance types and processors. No coefficient lives in code.
"""
