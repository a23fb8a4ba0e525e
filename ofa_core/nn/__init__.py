"""The elastic networks: a supernet called with an architecture, and the plain sub-nets it yields. Torch starts here."""
