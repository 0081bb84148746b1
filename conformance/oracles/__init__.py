"""Plain equations of the architectures, independent of any modelling file, and closed forms of their masks."""
