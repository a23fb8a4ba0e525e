"""The agent: a program that runs on the device and times models for the host.

It needs Python 3.8 or newer, the standard library and one inference runtime with its packages, but no other module of
this project. The host packs this folder into one `.pyz` file (`profiler.agent_zip.build_pyz`), pushes it, and exchanges
JSON lines with it (`docs/formats.md`, "Agent protocol").
"""
