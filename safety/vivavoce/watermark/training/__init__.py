"""Training of the mark's two networks: data, edits, losses, the loop, and the export of what it learned."""
