"""One prediction by many processes: shards of a job array, or workers of a Dask cluster."""
