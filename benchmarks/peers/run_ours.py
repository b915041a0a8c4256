"""Single passes of the paper's net in OpenVINO with the same weights and input as the peer.

python run_ours.py INPUT.npy NET.onnx REPEATS
"""

import json
import resource
import sys
import time

import numpy as np
import openvino as ov


def main(source, net, repeats):
    planes = np.load(source)
    start = time.perf_counter()
    core = ov.Core()
    model = core.read_model(net)
    model.reshape({"planes": list(planes.shape)})
    config = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(model, "CPU", config).create_infer_request()
    del model
    load = time.perf_counter() - start
    runs = []
    for _ in range(repeats + 1):
        wall, cpu = time.perf_counter(), time.process_time()
        request.infer({"planes": planes})
        runs.append({"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu})
    np.save(source.replace(".npy", "_direct.npy"), request.get_output_tensor().data)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        json.dumps(
            {
                "runs": runs[1:],
                "load_s": load,
                "peak_mb": peak,
                "versions": {"openvino": ov.__version__},
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
