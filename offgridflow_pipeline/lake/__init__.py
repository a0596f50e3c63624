"""Delta tables: declared schemas, atomic partition replacement, raw objects, and the engine that reads them."""
