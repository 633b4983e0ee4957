"""Modules loaded under a library's name by `scopevit.compat`; not meant to be imported."""
