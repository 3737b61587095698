"""Losses: pure functions of tensors, a file each.

A loss is (N,), one value per sample, float32 (float64 for float64) whatever precision its input
has, and a sample's value does not depend on the batch it is in. Weights, means and schedules are
the caller's. Every docstring says where the formula comes from; what the paper (*Distilled Siamese
Networks for Visual Tracking*, arXiv 1907.10586) leaves open, or could not be read, is called our
choice.
"""
