"""Training samples: frames, truth, augmentation, labelled subsets."""
