"""Everything that is read and written: images, results, data sets, and the storage below them."""
