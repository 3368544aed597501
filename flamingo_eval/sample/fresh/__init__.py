"""Benchmarks of in-context learning drawn anew from a seed: the tasks of VL-ICL Bench in its official layout.

Pixels are integers in every step (canvas.py), so every machine draws the same ones.
"""
