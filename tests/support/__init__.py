"""Shared by the tests; not collected."""
