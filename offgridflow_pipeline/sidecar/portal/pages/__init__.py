"""Pages by area. A handler reads or changes through the caller's transaction, then renders or sends elsewhere."""
