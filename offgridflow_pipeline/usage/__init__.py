"""Extract rows become usage lines: FOCUS 1.4 names, canonical quantities, dispositions, identity.

Only expressions: nothing is read or computed until somebody asks for the columns. What a line emits is
decided in `emissions`.
"""
