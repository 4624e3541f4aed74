"""Suites: one YAML file is one comparison."""
