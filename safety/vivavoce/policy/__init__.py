"""Policy: what is let in. A request becomes a job here, or a refusal; either way it is in the log first."""
