"""Trained models in the formats of other runtimes, checked against PyTorch. Needs the extra ``volo[export]``."""
