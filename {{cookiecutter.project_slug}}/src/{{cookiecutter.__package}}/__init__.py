"""Train, register and look after the models of this project."""
