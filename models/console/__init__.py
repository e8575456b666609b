"""Output in a terminal or a pipe: progress, tables, errors."""
