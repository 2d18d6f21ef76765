"""Training runs: configuration, optimizer, schedule, loaders, callbacks, reports. Needs the extra ``volo[train]``."""
