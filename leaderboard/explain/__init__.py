"""What goes with predictability: annotation of readouts, plate correction, relations of feature sets."""
