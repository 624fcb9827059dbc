"""From a program to something that can be called."""
