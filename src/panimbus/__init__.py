"""panimbus: marker positivity for every cell and every marker of multiplexed tissue images, with no
retraining.

>>> import numpy as np, panimbus
>>> fov = panimbus.from_array(np.zeros((1, 32, 32), np.uint8), np.ones((32, 32), np.uint16), channels=["CD3"], mpp=0.5)
>>> fov.channels
('CD3',)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.4.0"

_WHERE = {
    "ChannelScale": "panimbus.core.scale",
    "Fov": "panimbus.core.fov",
    "InputError": "panimbus.core.errors",
    "ModelCard": "panimbus.model.card",
    "PanimbusError": "panimbus.core.errors",
    "PredictSettings": "panimbus.infer.predict",
    "Progress": "panimbus.infer.predict",
    "assign_types": "panimbus.phenotype.assign",
    "from_array": "panimbus.io",
    "inspect_fovs": "panimbus.infer.preflight",
    "open_fovs": "panimbus.io",
    "predict": "panimbus.infer.predict",
    "simulate_tissue": "panimbus.simulate",
    "to_frame": "panimbus.core.table",
}
__all__ = [*sorted(_WHERE), "__version__"]  # noqa: PLE0604 (the names are literal strings above)

if TYPE_CHECKING:
    from panimbus.core.errors import InputError as InputError
    from panimbus.core.errors import PanimbusError as PanimbusError
    from panimbus.core.fov import Fov as Fov
    from panimbus.core.scale import ChannelScale as ChannelScale
    from panimbus.core.table import to_frame as to_frame
    from panimbus.infer.predict import PredictSettings as PredictSettings
    from panimbus.infer.predict import Progress as Progress
    from panimbus.infer.predict import predict as predict
    from panimbus.infer.preflight import inspect_fovs as inspect_fovs
    from panimbus.io import from_array as from_array
    from panimbus.io import open_fovs as open_fovs
    from panimbus.model.card import ModelCard as ModelCard
    from panimbus.phenotype.assign import assign_types as assign_types
    from panimbus.simulate import simulate_tissue as simulate_tissue


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that ``import panimbus`` costs next to
    nothing.
    """
    if name not in _WHERE:
        message = f"module 'panimbus' has no attribute {name!r}; it has {', '.join(__all__)}"
        raise AttributeError(message)
    value = getattr(importlib.import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
