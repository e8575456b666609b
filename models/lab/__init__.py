"""One file for each claim: each trains what it needs, and prints and draws what came out."""
