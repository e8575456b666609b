"""Ops of several steps in one: each has its rules as expressions, its reference in primitives, and a kernel."""
