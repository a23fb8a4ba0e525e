"""The agent in C, for devices without Python: `agent.c`, and how it is built and started."""
