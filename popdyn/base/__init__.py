"""The ground floor: errors, registries, options, files, processes; it knows nothing of physics."""
