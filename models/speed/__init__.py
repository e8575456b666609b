"""Benchmark and profile of a training step."""
