"""From Python source to IR."""
