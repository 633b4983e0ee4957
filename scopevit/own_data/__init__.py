"""Configs for own data: what `scopevit new` reads, decides and writes."""
