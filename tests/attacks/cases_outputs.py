"""Outputs: options that contradict one another, folders that cannot be written to, names that no
file can hold."""

import os

from attacks import attack


def _phenotype(folder, *more, table=None):
    path = table or folder / "scores.csv"
    if table is None:
        path.write_text("fov,label,CD3,CD20\nfov1,1,0.9,0.1\nfov1,2,0.1,0.8\nfov1,3,0.2,0.1\n")
    return ["phenotype", "run", path, "--out", folder / "out", "--no-report", *more]


@attack("--maps-format", "png", "zarr")
def maps_as_png(folder):
    return folder.predict("--maps", "--maps-format", "png")


@attack("--maps-grid", "0.25", "image")
def maps_on_a_grid_of_numbers(folder):
    return folder.predict("--maps", "--maps-grid", "0.25")


@attack("no score maps are asked for", "--maps")
def grid_of_maps_that_are_not_wanted(folder):
    return folder.predict("--maps-grid", "image")


@attack("no score maps are asked for", "--maps")
def background_of_maps_that_are_not_wanted(folder):
    return folder.predict("--maps-background")


@attack("--maps and --shard", "one process")
def maps_in_shares(folder):
    return folder.predict("--maps", "--maps-grid", "image", "--shard", "1/2")


@attack("one process", "leave out the maps")
def maps_on_a_cluster(folder):
    return folder.predict("--maps", "--dask", "local:2")


@attack("--columns", "nimbus", "scimap")
def unknown_columns(folder):
    return folder.predict("--columns", "nimbus")


@attack("--columns", "arc", "ark")
def unknown_columns_of_types(folder):
    return _phenotype(folder, "--columns", "arc")


@attack("--columns", "scimap")
def unknown_columns_of_a_merge(folder):
    return ["merge", folder.root, "--columns", "x"]


@attack("X_centroid", "layout scimap", "rename")
def marker_called_as_a_column_of_scimap(folder):
    (folder / "s.csv").write_text("fov,label,CD3,X_centroid\nfov1,1,0.9,0.1\nfov1,2,0.1,0.8\n")
    return _phenotype(folder, "--columns", "scimap", table=folder / "s.csv")


@attack("centroids in pixels", "fov1", "--columns")
def pixels_of_unknown_size(folder):
    return _phenotype(folder, "--columns", "ark")


@attack("out is a file", "folder")
def out_is_a_file(folder):
    (folder / "out").write_text("mine")
    return folder.predict()


@attack("out is a file", "folder")
def out_is_below_a_file(folder):
    (folder / "out").write_text("mine")
    return [a if a != folder / "out" else folder / "out" / "a" / "b" for a in folder.predict()]


@attack("out is a file", "folder")
def out_of_types_is_a_file(folder):
    (folder / "out").write_text("mine")
    return _phenotype(folder)


@attack("is a file", "folder")
def out_is_a_pipe(folder):
    os.mkfifo(folder / "out")
    return folder.predict()


@attack("broken link", "folder")
def out_is_a_dead_link(folder):
    (folder / "out").symlink_to(folder / "nowhere" / "at" / "all")
    return folder.predict()


@attack("nothing can be written there", "another folder")
def out_is_where_nobody_may_write(folder):
    return [a if a != folder / "out" else "/proc/panimbus/out" for a in folder.predict()]


@attack("nothing can be written there", "too long")
def out_has_a_name_too_long(folder):
    return [a if a != folder / "out" else folder / ("x" * 300) for a in folder.predict()]


@attack("nothing can be written there")
def types_go_where_nobody_may_write(folder):
    return [a if a != folder / "out" else "/proc/panimbus" for a in _phenotype(folder)]


@attack("Unknown kind of table", "xlsx", "h5ad")
def tables_for_excel(folder):
    return folder.predict("--tables", "h5ad,xlsx")


@attack("Unknown kind of table", "none given")
def no_tables(folder):
    return folder.predict("--tables", ",")


@attack("Pictures of cells need the label images", "--labels")
def mantis_without_labels(folder):
    return _phenotype(folder, "--mantis")


@attack("Pictures of cells need the label images", "--labels")
def spatialdata_without_labels(folder):
    return _phenotype(folder, "--spatialdata")


@attack("--images and --spatialdata")
def images_into_nothing(folder):
    return _phenotype(folder, "--labels", folder.labels(), "--with-images")


@attack("--images and --spatialdata")
def no_images_to_go_along(folder):
    return _phenotype(folder, "--labels", folder.labels(), "--spatialdata", "--with-images")


@attack("not in the label image", "99")
def types_of_cells_that_are_not_there(folder):
    (folder / "s.csv").write_text("fov,label,CD3,CD20\nfov1,99,0.9,0.1\nfov1,2,0.1,0.8\n")
    return _phenotype(folder, "--labels", folder.labels(), table=folder / "s.csv")


@attack("there is no such file", "--out of the shards")
def merge_of_nothing(folder):
    return ["merge", folder.root]


@attack("request.json", "not JSON")
def merge_of_a_damaged_request(folder):
    (folder / "request.json").write_text('{"format": 1, "request": [')
    return ["merge", folder.root]
