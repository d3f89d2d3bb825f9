"""Plain modules: encoders, critics, decoders and discriminators, usable without Lightning."""
