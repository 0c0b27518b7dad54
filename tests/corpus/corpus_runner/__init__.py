"""Runs the bypass corpus against the real proxy. See bypass_cases.json beside this package."""
