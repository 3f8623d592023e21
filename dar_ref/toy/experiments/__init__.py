"""Experiments over methods, settings and seeds: what is run, how it is run and kept, and the tables and figures."""
