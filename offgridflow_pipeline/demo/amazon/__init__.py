"""AWS bills of the demonstration: rows in one form, and the layouts of CUR 2.0, legacy CUR and FOCUS."""
