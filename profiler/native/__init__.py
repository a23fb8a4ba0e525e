"""The agent in C for devices without Python: `agent.c`, and the code that builds and starts it."""
