"""Runs knock-outs: many variants of a prompt's last token through the model at once, exactly."""
