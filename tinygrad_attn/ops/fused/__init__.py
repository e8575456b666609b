"""Fused ops: each has rules as expressions, a reference in primitives, and a kernel."""
