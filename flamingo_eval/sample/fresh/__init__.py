"""Benchmarks of in-context learning, generated from a seed: the tasks of VL-ICL Bench in its official layout.

Pixels are integers in every step (canvas.py), so they are the same on every machine.
"""
