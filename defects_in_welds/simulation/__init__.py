"""Simulated radiographs of butt welds, with their truth.

Equal to the bit on every CPU: only operations that IEEE 754 rounds exactly (``+ - * /`` and the square root), one at a
time, on float64 numbers, and integers. NumPy's own ``exp``, ``sin``, ``power`` and sums differ in the last bit between
CPUs.
"""
