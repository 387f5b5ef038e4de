"""Finds secrets and personal data in JSON values and text, and replaces them by placeholders."""
