"""Where: positions, relations, interventions (sections 4 and 5 of the paper)."""
