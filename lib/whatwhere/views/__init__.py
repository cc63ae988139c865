"""Pictures of what is read off a model: HTML that needs no kernel and no network, in one look."""
