"""From image files to fields: readers, segmentation, and the stream that featurizers are fed from."""

from bench.imaging.fields import Fields, field_source, mask_files, preprocessing_key

__all__ = ["Fields", "field_source", "mask_files", "preprocessing_key"]
