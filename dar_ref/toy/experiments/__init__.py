"""Experiments over methods, settings and seeds: their runs, the cache of runs, and the tables and figures."""
