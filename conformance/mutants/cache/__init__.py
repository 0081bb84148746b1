"""cache: entries that are missing, made up, partial, late or shared, and options without effect."""

from . import algebra, entries, filters, options  # noqa: F401
