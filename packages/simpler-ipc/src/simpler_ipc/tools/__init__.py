"""The tools behind `python -m simpler_ipc`; each is a module with `add_to(commands)`."""
