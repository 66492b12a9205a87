"""What tools and findings share: scoring, interventions, twins and donors, measuring."""
