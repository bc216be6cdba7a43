"""Estimators: scikit-learn verbs on the outside, torch and numba inside."""
