"""Typed, frozen settings of training and evaluation."""
