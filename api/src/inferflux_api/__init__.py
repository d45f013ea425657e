"""The HTTP face of InferFlux: dialects in front, governance in the middle, engines behind."""
