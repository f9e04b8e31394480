"""Raises when it is imported."""


def build():
    return {}["missing key"]


TABLE = build()
