"""How well the marks last: found, read and resolved after edits, next to other watermarks on the same clips."""
