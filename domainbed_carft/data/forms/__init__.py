"""Data sets that are not folders DOMAIN/CLASS/IMAGE: manifests, tables of images, shards."""
