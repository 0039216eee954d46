"""What is measured, and against what: each bench is a command, none is a test."""
