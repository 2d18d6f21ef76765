"""Interleaved benchmarks: speed, memory and start-up time of models on this machine, each in its own process."""
