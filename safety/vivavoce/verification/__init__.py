"""Verifying a recording: who speaks, and what is said. The models are tools of workers; they load torch when opened."""
