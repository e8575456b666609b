"""From a source to its translation: greedy, by beam, and line by line."""
