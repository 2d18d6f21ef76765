"""The tasks: Lightning modules with their losses and metrics. Needs the extra ``volo[train]``."""
