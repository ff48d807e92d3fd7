"""How much of everything a load needs: costs that were measured, a model that multiplies them, a simulation that looks for hot spots."""
