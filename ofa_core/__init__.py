"""The vocabulary of the family (architectures, spaces, blocks, tables), search, and training."""
