"""Measures building blocks and whole sub-nets on a device, and writes latency tables."""
