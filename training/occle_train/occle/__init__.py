"""OccLE's recipe (Fang et al., Algorithm 1): aligned pseudo-labels, augmentation, teacher and student, phases."""
