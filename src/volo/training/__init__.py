"""How a run runs: configuration, optimizer, schedule, loaders, callbacks. Needs the extra ``volo[train]``."""
