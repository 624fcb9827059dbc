"""The nouns: callables, tasks and their states, runs, and where tasks can be sent. Nothing here acts by itself."""
