"""The ledger: rows, objects and keys. Everything that the platform knows, and nothing that it decides."""
