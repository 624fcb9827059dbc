"""The verbs: orchestrator, scheduler and dispatcher build the graph of a run and run it."""
