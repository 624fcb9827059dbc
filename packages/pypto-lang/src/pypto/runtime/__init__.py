"""Running compiled programs: what a call is checked against, how an output directory is brought to life."""
