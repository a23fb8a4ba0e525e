"""Search for the most accurate sub-net that keeps a latency limit."""
