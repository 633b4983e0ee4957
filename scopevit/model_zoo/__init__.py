"""Whether the models of the libraries' own configs work: built, trained and asked for one step."""
