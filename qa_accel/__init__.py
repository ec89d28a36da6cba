"""Extractive question answering: fine-tune, evaluate and answer, on any number of processes."""
