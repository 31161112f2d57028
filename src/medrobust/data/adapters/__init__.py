"""Adapters: what is in a folder of each layout, and what is wrong with it."""
