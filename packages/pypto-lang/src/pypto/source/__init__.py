"""What points into a user's file: its text, places in it, what its names mean."""
