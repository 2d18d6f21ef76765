"""Export of trained models to other runtimes, and the comparison with PyTorch. Needs the extra ``volo[export]``."""
