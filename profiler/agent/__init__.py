"""The agent: the program that runs on the device and times models for the host.

It stands alone: standard library, one inference runtime and what that runtime needs (numpy), Python 3.8 or newer, and
nothing else of this project. The host packs this folder into one `.pyz` (`profiler.agent_zip.build_pyz`), pushes it and
talks to it in JSON lines (`docs/formats.md`, "Agent protocol").
"""
