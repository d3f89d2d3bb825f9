"""Evaluations of frozen encoders: each fits on train features and reports on test features."""
