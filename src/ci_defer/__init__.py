"""Slim CI for dbt: publish what production looks like, build pull requests against it."""

__version__ = "0.1.0"
