"""Prediction in shards: independent processes with a common output folder, and their merge.

The processes communicate through the folder alone, where each band and block is a file that is
complete or absent.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from panimbus.core.band import BandScan
from panimbus.core.errors import InputError
from panimbus.core.fov import Fov
from panimbus.core.progress import OnProgress, silent
from panimbus.core.scale import ChannelScale
from panimbus.core.scan import fov_bands
from panimbus.infer.blocks import BlockPart
from panimbus.infer.collect import collect, normaliser
from panimbus.infer.devices import open_backend
from panimbus.infer.distribute.manifest import (
    Request,
    RunManifest,
    claim_backend,
    claim_folder,
    read_manifest,
)
from panimbus.infer.executor import LocalExecutor, Plan, ScanWork, ScoreWork
from panimbus.infer.inputs import check_fovs, make_plan
from panimbus.infer.passes import Run, Shard, fov_blocks, report_changed_files, scan_all, score_all
from panimbus.infer.store import FolderStore
from panimbus.io.files import check_folder

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger(__name__)
STAGES = ("all", "scan")


def predict_shard(
    request: Request,
    *,
    out: str | Path,
    shard: Shard,
    stage: str = "all",
    command: Sequence[str] = (),
    progress: OnProgress = silent,
) -> None:
    """Run one of n shards of a prediction; `merge` makes the table when all are finished.

    A shard scans its bands, then the bands that other shards have not scanned by then (scoring
    needs the normaliser of all FOVs), and scores its blocks.

    Parameters
    ----------
    request
        What to predict; the same in all shards.
    out
        Folder that all shards can reach.
    shard
        Which shard.
    stage
        ``scan`` ends after the first pass.
    command
        Command line without its shard, for messages of `merge`.
    progress
        Progress callback.

    Raises
    ------
    InputError
        On input that cannot be scored, or if another shard had another request.
    """
    if stage not in STAGES:
        raise InputError(f"Unknown stage {stage!r}.", available=STAGES)
    folder, scale = Path(out), request.normaliser()
    fovs, plan = _prepared(request, scale)
    claim_folder(folder, request, plan.model, shard.of, command)
    check_folder(folder)
    store, report = FolderStore(folder, [f.fov_id for f in fovs]), progress
    if stage == "scan":
        with report_changed_files(fovs):
            scan_all(Run(fovs, plan, _ScanOnly(), store, report, shard), shard)
        return
    executor = LocalExecutor(open_backend(plan.model, plan.settings))
    claim_backend(folder, executor.name)
    run = Run(fovs, plan, executor, store, report, shard)
    with report_changed_files(fovs):
        _scan_whole(run)
        score_all(run, normaliser(run, scale), executor.name, only_shard=True)


def merge(out: str | Path) -> tuple[AnnData, list[Fov]]:
    """Merge all shards to the table that one process would have made, without reading pixels.

    Parameters
    ----------
    out
        The folder of the shards.

    Returns
    -------
    table, fovs
        As from `predict`, and its FOVs.

    Raises
    ------
    InputError
        If shards are missing; names them and their commands.
    """
    folder = Path(out)
    manifest = read_manifest(folder)
    scale = manifest.request.normaliser()
    fovs, plan = _prepared(manifest.request, scale)
    if plan.model.sha256 != manifest.model_sha256:
        where = plan.model.weights
        raise InputError(
            f"{where} is not the model of the shards.",
            expected=manifest.model_sha256,
            got=plan.model.sha256,
        )
    executor = _MissingShards(manifest, fovs)
    store = FolderStore(folder, [f.fov_id for f in fovs])
    run = Run(fovs, plan, executor, store, silent)
    scan_all(run)
    scale = normaliser(run, scale)
    table = collect(run, scale, score_all(run, scale, executor.name), executor.name)
    for fov in fovs:  # every FOV is complete now
        store.drop_parts(fov, BandScan)
        store.drop_parts(fov, BlockPart)
    return table, fovs


def _prepared(request: Request, scale: ChannelScale | None) -> tuple[list[Fov], Plan]:
    fovs = request.open()
    check_fovs(fovs, request.channels)
    return fovs, make_plan(request.files(), request.settings, fovs, request.channels, scale)


def _scan_whole(run: Run) -> None:
    """Complete the first pass: this shard, then one by one those that are still missing."""
    number, of = run.shard.number, run.shard.of
    for turn in [*range(number, of + 1), *range(1, number)]:
        if turn != number:
            logger.warning(
                "The first pass is not complete: scanning what is missing of shard %d/%d, too.",
                turn,
                of,
            )
        if scan_all(run, Shard(turn, of)):
            return
    raise InputError(
        "The first pass is not complete, although all of it was scanned.",
        got="files of the first pass were removed, or images changed, while this shard ran",
        fix="run the same command again",
    )


class _ScanOnly(LocalExecutor):
    """Executor of the first pass, without a net."""

    def __init__(self) -> None:
        self.name = "none"


class _MissingShards:
    """Executor for `merge`: reports missing shards."""

    def __init__(self, manifest: RunManifest, fovs: Sequence[Fov]) -> None:
        self.name = manifest.backend or "none"
        self._manifest = manifest
        self._fovs = fovs

    def scan(self, plan: Plan, work: Sequence[ScanWork]) -> Iterator[tuple[str, int, BandScan]]:
        """See `Executor`."""
        units = [
            (f.fov_id, k) for f in self._fovs for k in range(len(fov_bands(f, plan.model.card.mpp)))
        ]
        self._check(
            "bands of the first pass", units, {(w.fov.fov_id, k) for w in work for k in w.bands}
        )
        return iter(())

    def score(
        self,
        plan: Plan,
        scale: ChannelScale,  # noqa: ARG002 (the protocol's)
        work: Sequence[ScoreWork],
        on_pixels: Callable[[str, int], None],  # noqa: ARG002
    ) -> Iterator[tuple[str, BlockPart]]:
        """See `Executor`."""
        units = [(f.fov_id, b.number) for f in self._fovs for b in fov_blocks(f, plan)]
        self._check("blocks", units, {(w.fov.fov_id, b.number) for w in work for b in w.blocks})
        return iter(())

    def _check(
        self, name: str, units: Sequence[tuple[str, int]], missing: set[tuple[str, int]]
    ) -> None:
        if not missing:
            return
        of = self._manifest.shards
        shards = [
            i
            for i in range(1, of + 1)
            if any(units[k] in missing for k in Shard(i, of).takes(len(units)))
        ]
        commands = [self._manifest.shard_command(i) for i in shards]
        raise InputError(
            f"{len(missing)} of {len(units)} {name} are missing: shard"
            f" {', '.join(f'{i}/{of}' for i in shards)}.",
            expected="all shards finished without an error",
            fix="\n             ".join(
                [
                    f"in {self._manifest.folder} run",
                    *commands[:8],
                    *(["..."] if len(commands) > 8 else []),
                ]
            ),
        )
