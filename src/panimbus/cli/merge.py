"""``panimbus merge``: one cell table from the shards of ``panimbus predict --shard i/n``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from panimbus.cli import options


def command(
    out: Annotated[Path, options.files_argument("FOLDER", "The --out folder of the shards.")],
    *,
    tables: options.Tables = "h5ad,csv",
    columns: options.Columns = options.Layout.panimbus,
    overwrite: options.Overwrite = False,
) -> None:
    """Combine the shards of `panimbus predict --shard i/n` into one cell table.

    Nothing is scored; missing shards are reported.
    """
    from panimbus.cli.console import RunLog, on_terminal, plural
    from panimbus.cli.predict import next_command, save_results
    from panimbus.core.layouts import check_layout
    from panimbus.infer.distribute.manifest import read_manifest
    from panimbus.infer.distribute.shards import merge
    from panimbus.infer.output import check_kinds
    from panimbus.infer.record import asked_for, check_same_run

    kinds = check_kinds(tables)
    manifest = read_manifest(out)
    request = manifest.request
    log = RunLog("merge", f"{plural(manifest.shards, 'shard')} in {out}", quiet=on_terminal())
    table, fovs = merge(out)
    asked = asked_for(
        fovs, request.files(), request.settings, request.channels, request.normaliser()
    )
    check_same_run(out, asked, overwrite=overwrite)
    check_layout(columns.value, list(map(str, table.var_names)), {f.fov_id: f.mpp for f in fovs})
    log.line(
        f"merged {plural(len(fovs), 'FOV')}, {plural(table.n_obs, 'cell')},"
        f" {plural(table.n_vars, 'channel')}"
    )
    save_results(table, out, kinds, fovs, asked=asked, layout=columns.value)
    log.end(out, next_command(out, kinds, request.labels))
